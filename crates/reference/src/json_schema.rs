//! Generates the JSON Schema of a configuration file, which editors use to complete and check it.

use config::schema::Default;
use config::{Key, Keys, Kind, Schema, Table, value};
use serde_json::{Map, Value, json};

/// Returns a schema of draft 2020-12, pretty-printed.
#[must_use]
pub fn json_schema(title: &str, schema: Schema) -> String {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for table in schema {
        match (table.name, table.keys) {
            ("", Keys::Known(keys)) => {
                properties.extend(keys.iter().map(|it| (it.name.to_owned(), key(it))));
                required.extend(keys.iter().filter(|it| it.default == Default::Required).map(|it| it.name));
            }
            (name, _) => drop(properties.insert(name.to_owned(), self::table(table))),
        }
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    });
    format!("{schema:#}\n")
}

fn table(table: &Table) -> Value {
    match table.keys {
        Keys::Known(keys) => object(table.help, keys),
        Keys::Free(entries) | Keys::Secret(entries) => json!({
            "description": table.help,
            "type": "object",
            "propertyNames": { "pattern": entries.pattern },
            "additionalProperties": Value::Object(kind(entries.value)),
        }),
    }
}

fn object(help: &str, keys: &[Key]) -> Value {
    let properties: Map<_, _> = keys.iter().map(|it| (it.name.to_owned(), key(it))).collect();
    let mut object = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !help.is_empty() {
        object["description"] = help.into();
    }
    object
}

fn key(key: &Key) -> Value {
    let mut description = key.help.to_owned();
    if let Default::Varies(words) = key.default {
        description = format!("{description} The default is {words}.");
    }
    let mut schema = Map::from_iter([("description".to_owned(), description.into())]);
    schema.extend(kind(key.kind));
    if let Default::Value(value) = key.default {
        schema.insert("default".to_owned(), of_toml(value));
    }
    Value::Object(schema)
}

fn kind(kind: Kind) -> Map<String, Value> {
    let schema = match kind {
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::Text | Kind::Path => json!({ "type": "string" }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Address => json!({ "type": "string", "pattern": ADDRESS }),
        Kind::Texts => one_or_more(&json!({ "type": "string" })),
        Kind::Addresses => one_or_more(&json!({ "type": "string", "pattern": ADDRESS })),
        Kind::Integer(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Duration(min, max) => quantity(value::DURATIONS, min.as_secs_f64(), max.as_secs_f64()),
        #[expect(clippy::cast_precision_loss, reason = "the bounds are far below 2^53")]
        Kind::Size(min, max) => quantity(value::SIZES, min as f64, max as f64),
        Kind::Percent(..) => json!({ "type": "string", "pattern": r"^\s*[0-9]+\s*%$" }),
        Kind::Switch(keys) => json!({ "anyOf": [{ "type": "boolean" }, object("", keys)] }),
        Kind::PathOrTable(keys) => json!({ "anyOf": [{ "type": "string" }, object("", keys)] }),
    };
    match schema {
        Value::Object(schema) => schema,
        _ => Map::new(),
    }
}

const ADDRESS: &str = "^(\\[.*\\]|[0-9.]+):[0-9]+$";

fn one_or_more(element: &Value) -> Value {
    json!({ "anyOf": [element, { "type": "array", "items": element }] })
}

/// A number with or without a unit.
fn quantity(units: &[(&str, f64)], min: f64, max: f64) -> Value {
    let units: Vec<_> = units.iter().map(|(name, _)| *name).collect();
    let pattern = format!(r"^\s*[0-9.]+\s*({})\s*$", units.join("|"));
    json!({ "anyOf": [
        { "type": "string", "pattern": pattern },
        { "type": "number", "minimum": whole(min), "maximum": whole(max) },
    ] })
}

/// Converts to an integer if the number is one.
fn whole(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, and is compared")]
    let integer = number as i64;
    #[expect(clippy::cast_precision_loss, reason = "is compared")]
    let is_whole = integer as f64 == number;
    if is_whole { integer.into() } else { number.into() }
}

fn of_toml(text: &str) -> Value {
    let value: toml_edit::Value = text.parse().unwrap_or_else(|error| panic!("{text} is not TOML: {error}"));
    of_value(&value)
}

/// Converts a TOML value for a JSON Schema validator.
#[must_use]
pub fn of_value(value: &toml_edit::Value) -> Value {
    match value {
        toml_edit::Value::String(it) => it.value().as_str().into(),
        toml_edit::Value::Integer(it) => (*it.value()).into(),
        toml_edit::Value::Float(it) => (*it.value()).into(),
        toml_edit::Value::Boolean(it) => (*it.value()).into(),
        toml_edit::Value::Datetime(it) => it.value().to_string().into(),
        toml_edit::Value::Array(it) => it.iter().map(of_value).collect(),
        toml_edit::Value::InlineTable(it) => {
            it.iter().map(|(key, value)| (key.to_owned(), of_value(value))).collect()
        }
    }
}
