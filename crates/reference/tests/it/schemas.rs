//! The JSON Schemas accept what the parsers accept, as far as a small validator can tell.

use std::fs;

use reference::{json_schema, of_value, repository};
use serde_json::Value;

#[test]
fn examples_are_valid() {
    let files = [
        ("app", "deploy/examples/blog.toml"),
        ("frontd", "deploy/examples/frontd.toml"),
        ("frontd", "deploy/container/frontd.toml"),
        ("emperord", "deploy/examples/emperord.toml"),
    ];
    for (name, file) in files {
        let text = fs::read_to_string(repository().join(file)).unwrap();
        assert_eq!(validate(&schema(name), &value(&text), name), Vec::<String>::new(), "{file}");
    }
}

#[test]
fn mistakes_are_reported() {
    let cases: &[(&str, &str, &str)] = &[
        ("app", "domains = 'x'\ndirectory = 'x'\nwokers = 1", "app: unknown wokers"),
        ("app", "domains = 'x'", "app: missing directory"),
        ("app", "domains = ['x', 1]\ndirectory = 'x'", "app.domains: none of the alternatives"),
        ("app", "domains = 'x'\ndirectory = 'x'\nworkers = 0", "app.workers: below the minimum"),
        (
            "app",
            "domains = 'x'\ndirectory = 'x'\npreload = { thread = 'allow' }",
            "app.preload: none of the alternatives",
        ),
        (
            "app",
            "domains = 'x'\ndirectory = 'x'\nstatic = { '/a/' = 3 }",
            "app.static./a/: none of the alternatives",
        ),
        ("app", "domains = 'x'\ndirectory = 'x'\nenv = { A = 3 }", "app.env.A: not of type string"),
        ("frontd", "access_log = true", "frontd.access_log: not among the choices"),
        ("frontd", "[limits]\nheader = 3", "frontd.limits.header: none of the alternatives"),
    ];
    for (name, text, expected) in cases {
        assert_eq!(validate(&schema(name), &value(text), name), [expected.to_owned()], "{text}");
    }
}

fn schema(name: &str) -> Value {
    let keys = match name {
        "app" => vassal::SCHEMA,
        "frontd" => config::frontd::SCHEMA,
        _ => config::emperord::SCHEMA,
    };
    serde_json::from_str(&json_schema(name, keys)).unwrap()
}

fn value(text: &str) -> Value {
    let file: toml_edit::DocumentMut = text.parse().unwrap();
    of_value(&file.into_table().into_inline_table().into())
}

/// Validates the keywords that the schemas use, except `pattern`.
fn validate(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let problem = |what: &str| vec![format!("{path}: {what}")];
    if let Some(schemas) = schema["anyOf"].as_array() {
        let fits = schemas.iter().any(|it| validate(it, value, path).is_empty());
        return if fits { Vec::new() } else { problem("none of the alternatives") };
    }
    if let Some(choices) = schema["enum"].as_array() {
        return if choices.contains(value) { Vec::new() } else { problem("not among the choices") };
    }
    let kind = schema["type"].as_str().unwrap();
    let is_right = match kind {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    if !is_right {
        return problem(&format!("not of type {kind}"));
    }
    if value.as_f64() < schema["minimum"].as_f64() {
        return problem("below the minimum");
    }
    if schema["maximum"].as_f64().is_some_and(|it| value.as_f64() > Some(it)) {
        return problem("above the maximum");
    }
    let elements = value.as_array().into_iter().flatten();
    let mut wrong: Vec<_> = elements.flat_map(|it| validate(&schema["items"], it, path)).collect();
    for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(key).is_none() {
            wrong.push(format!("{path}: missing {key}"));
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (schema["properties"].get(key), &schema["additionalProperties"]) {
            (Some(schema), _) => wrong.extend(validate(schema, value, &path)),
            (None, Value::Object(_)) => wrong.extend(validate(&schema["additionalProperties"], value, &path)),
            (None, _) => wrong.push(format!("{}: unknown {key}", path.trim_end_matches(&format!(".{key}")))),
        }
    }
    wrong
}
