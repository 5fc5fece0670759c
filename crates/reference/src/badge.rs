//! Draws a badge of the README: a label and a value, as SVG.

const HEIGHT: usize = 20;
/// Of a character, at 11 px.
const CHARACTER: usize = 7;
const MARGIN: usize = 10;

/// A badge as wide as its text.
#[must_use]
pub fn badge(label: &str, value: &str, color: &str) -> String {
    let [left, right] = [label, value].map(|it| it.chars().count() * CHARACTER + MARGIN);
    let (width, middle) = (left + right, left + right / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{HEIGHT}\" role=\"img\" \
         aria-label=\"{label}: {value}\">
<title>{label}: {value}</title>
<clipPath id=\"r\"><rect width=\"{width}\" height=\"{HEIGHT}\" rx=\"3\"/></clipPath>
<g clip-path=\"url(#r)\">
<rect width=\"{left}\" height=\"{HEIGHT}\" fill=\"#454c54\"/>
<rect x=\"{left}\" width=\"{right}\" height=\"{HEIGHT}\" fill=\"{color}\"/>
</g>
<g fill=\"#fff\" text-anchor=\"middle\" font-family=\"Verdana, 'DejaVu Sans', sans-serif\" font-size=\"11\">
<text x=\"{}\" y=\"14\" textLength=\"{}\">{label}</text>
<text x=\"{middle}\" y=\"14\" textLength=\"{}\">{value}</text>
</g>
</svg>
",
        left / 2,
        left - MARGIN,
        right - MARGIN,
    )
}
