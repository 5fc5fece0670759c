//! The chart for the README: how many times better than nginx + uWSGI, or nginx + uvicorn for ASGI apps, with a bar
//! for each case.

use std::fmt::Write as _;

use crate::cases::Case;
use crate::machine::Machine;
use crate::metric::{Better, Metric};
use crate::outcome::Outcome;
use crate::statistics::Ratio;
use crate::target::Of;

const LABEL: f64 = 370.0;
const PLOT: f64 = 420.0;
const WIDTH: f64 = LABEL + PLOT + 130.0;
const ROW: f64 = 24.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = 70.0;
/// Longer bars are truncated here. Their label has the value.
const LONGEST: f64 = 4.0;

const TITLE: &str = "Imperium beside nginx + uWSGI, and nginx + uvicorn for ASGI: how many times better";

/// Readable on light and dark pages.
const STYLE: &str = "<style>
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 16px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.right { text-anchor: end }
.middle { text-anchor: middle }
.better { fill: #2f81c7 }
.worse { fill: #c76b2f }
.grid { stroke: #d1d9e0 }
.same { stroke: #59636e; stroke-width: 1.5 }
.spread { stroke: #1f2328 }
.wanted { stroke: #1a7f37; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.small { fill: #9198a1 }
.grid { stroke: #3d444d }
.same { stroke: #9198a1 }
.spread { stroke: #f0f6fc }
.wanted { stroke: #3fb950 }
}
</style>
";

/// The result of a case as a factor: above 1 is better than the baseline, whichever values are better.
#[derive(Debug, PartialEq)]
struct Bar {
    label: String,
    factor: Ratio,
    wanted: Option<f64>,
}

/// Draws the cases that were measured on both sides.
pub(crate) fn draw(machine: &Machine, cases: &[(Case, Outcome)]) -> String {
    let bars: Vec<_> = cases.iter().filter_map(|(case, outcome)| Bar::of(case, outcome)).collect();
    let longest = bars.iter().map(|bar| bar.factor.high.max(bar.wanted.unwrap_or(0.0))).fold(2.0, f64::max);
    let scale = PLOT / longest.min(LONGEST);
    let rows = bars.iter().fold(0.0, |rows, _| rows + 1.0);
    let height = TOP + rows * ROW + BOTTOM;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n{STYLE}"
    );
    text(&mut svg, "title", 12.0, 24.0, TITLE);
    text(&mut svg, "small", 12.0, 42.0, "Median of paired rounds, with their spread. Green: the target.");
    grid(&mut svg, scale, height - BOTTOM);
    let mut top = TOP;
    for bar in &bars {
        bar.draw(&mut svg, top, scale);
        top += ROW;
    }
    let [hardware, software] = machine.lines();
    text(&mut svg, "small", 12.0, height - 26.0, &hardware);
    text(&mut svg, "small", 12.0, height - 10.0, &software);
    svg + "</svg>\n"
}

impl Bar {
    fn of(case: &Case, outcome: &Outcome) -> Option<Self> {
        let metric = case.headline;
        let turn = |ratio: Ratio| match metric.better() {
            Better::More => ratio,
            Better::Less => {
                Ratio { median: 1.0 / ratio.median, low: 1.0 / ratio.high, high: 1.0 / ratio.low }
            }
        };
        let factor = turn(outcome.ratio(case.baseline(), metric)?);
        Some(Self { label: label(case, metric), factor, wanted: wanted(case, metric) })
    }

    fn draw(&self, svg: &mut String, top: f64, scale: f64) {
        let Ratio { median, .. } = self.factor;
        let [low, end, high] = [self.factor.low, median, self.factor.high].map(|it| it.min(LONGEST));
        let middle = top + ROW / 2.0;
        text(svg, "right", LABEL - 10.0, middle + 4.5, &self.label);
        let class = if median < 1.0 { "worse" } else { "better" };
        let (width, bar, thick) = (end * scale, top + 4.0, ROW - 8.0);
        let _never = writeln!(
            svg,
            "<rect class=\"{class}\" x=\"{LABEL}\" y=\"{bar}\" width=\"{width:.1}\" height=\"{thick}\" rx=\"2\"/>"
        );
        line(svg, "spread", [LABEL + low * scale, middle], [LABEL + high * scale, middle]);
        if let Some(wanted) = self.wanted {
            let x = LABEL + wanted * scale;
            line(svg, "wanted", [x, top + 2.0], [x, top + ROW - 2.0]);
        }
        text(svg, "", LABEL + high * scale + 8.0, middle + 4.5, &format!("{median:.2} ×"));
    }
}

/// The label of a bar. It names the metric if that isn't obvious from the title.
fn label(case: &Case, metric: Metric) -> String {
    let title = case.title.split(':').next().unwrap_or_default();
    match metric {
        Metric::Throughput
        | Metric::Messages
        | Metric::Memory
        | Metric::ConnectionMemory
        | Metric::Recovery => title.to_owned(),
        _ => format!("{title}: {}", metric.title()),
    }
}

/// The target as a factor.
fn wanted(case: &Case, metric: Metric) -> Option<f64> {
    let of = Of::RatioTo(case.baseline());
    let target = case.targets.iter().find(|it| it.metric == metric && it.of == of)?;
    Some(match metric.better() {
        Better::More => target.bound.value(),
        Better::Less => 1.0 / target.bound.value(),
    })
}

fn grid(svg: &mut String, scale: f64, bottom: f64) {
    let mut factor = 0.0;
    while factor * scale <= PLOT {
        let x = LABEL + factor * scale;
        let class = if (factor - 1.0_f64).abs() < f64::EPSILON { "same" } else { "grid" };
        line(svg, class, [x, TOP - 4.0], [x, bottom + 4.0]);
        text(svg, "small middle", x, bottom + 18.0, &format!("{factor} ×"));
        factor += 1.0;
    }
}

fn line(svg: &mut String, class: &str, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2]) {
    let _never = writeln!(
        svg,
        "<line class=\"{class}\" x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\"/>"
    );
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _never = writeln!(svg, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::chosen;
    use crate::metric::Sample;
    use crate::side::Side;

    fn bar(name: &str, metric: Metric, ours: f64, theirs: f64) -> Option<Bar> {
        let case = chosen(&[name.to_owned()]).unwrap().remove(0);
        let mut outcome = Outcome::default();
        outcome.record(Side::UWSGI, Ok(Sample::from([(metric, theirs)])));
        outcome.record(Side::Imperium, Ok(Sample::from([(metric, ours)])));
        Bar::of(&case, &outcome)
    }

    #[test]
    fn a_longer_bar_is_always_better() {
        let throughput = bar("handshakes", Metric::Throughput, 300.0, 100.0).unwrap();
        assert_eq!((throughput.factor.median, throughput.wanted), (3.0, Some(1.0)));
        let memory = bar("memory", Metric::Memory, 50.0, 100.0).unwrap();
        assert_eq!((memory.factor.median, memory.wanted), (2.0, Some(1.0)));
        assert_eq!(bar("memory", Metric::Throughput, 1.0, 1.0), None);
    }

    #[test]
    fn a_bar() {
        let mut svg = String::new();
        let factor = Ratio { median: 2.0, low: 1.5, high: 2.5 };
        Bar { label: "a < b".to_owned(), factor, wanted: Some(1.0) }.draw(&mut svg, 100.0, 100.0);
        let expected = "\
<text class=\"right\" x=\"360.0\" y=\"116.5\">a &lt; b</text>
<rect class=\"better\" x=\"370\" y=\"104\" width=\"200.0\" height=\"16\" rx=\"2\"/>
<line class=\"spread\" x1=\"520.0\" y1=\"112.0\" x2=\"620.0\" y2=\"112.0\"/>
<line class=\"wanted\" x1=\"470.0\" y1=\"102.0\" x2=\"470.0\" y2=\"122.0\"/>
<text class=\"\" x=\"628.0\" y=\"116.5\">2.00 ×</text>
";
        assert_eq!(svg, expected);
    }
}
