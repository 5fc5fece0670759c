//! How long a worker takes from the start of its process until it serves.

use anyhow::Context as _;

use crate::metric::{Metric, Sample};
use crate::stack::Stack;

/// Has one more worker started and removed again, while no other starts.
pub(crate) async fn run(stack: &Stack) -> anyhow::Result<Sample> {
    let workers = stack.scene.workers;
    let before = ready(&stack.log());
    stack.scale(workers + 1).await?;
    let log = stack.log();
    let took = ready_lines(&log).nth(before).context("find the start of the worker in the log")?;
    let milliseconds: u32 = after_ms(took).with_context(|| format!("find after_ms in: {took}"))?;
    stack.scale(workers).await?;
    Ok(Sample::from([(Metric::Start, f64::from(milliseconds) * 1000.0)]))
}

fn ready(log: &str) -> usize {
    ready_lines(log).count()
}

fn ready_lines(log: &str) -> impl Iterator<Item = &str> {
    log.lines().filter(|line| line.contains("worker is ready"))
}

/// emperord measures it, from the start of the process on.
fn after_ms(line: &str) -> Option<u32> {
    let (_, rest) = line.split_once("after_ms=")?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_line() {
        let log = "INFO emperord: worker attached worker=bare-3\n\
                   INFO emperord: worker is ready worker=bare-3 after_ms=62 capacity=1 python=\"CPython 3.11\"\n";
        let lines: Vec<_> = ready_lines(log).collect();
        assert_eq!(lines.len(), 1);
        assert_eq!(after_ms(lines[0]), Some(62));
        assert_eq!(after_ms("worker is ready worker=bare-3 capacity=1"), None);
    }
}
