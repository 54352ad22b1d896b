//! What it costs to tell what a statement does, when it is seen for the first time: parser, walk, and the end of the tree.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result};
use pgward::sql::facts::{Encoding, Limits, STACK_BYTES, analyse};

use super::Options;
use super::parts::Part;
use super::report::median;
use crate::run::{root, say};

/// Analyses of one round.
const ANALYSES: u32 = 2000;

/// Name, text, and the microseconds that it may take.
const CASES: [(&str, &str, f64); 2] = [
    ("select by primary key", "SELECT abalance FROM pgbench_accounts WHERE aid = $1", 12.0),
    (
        "join of ten tables",
        "SELECT o.id, o.created_at, c.name, c.email, a.street, a.city, p.title, p.price, i.quantity, s.status, w.name, \
         r.rating, d.code, e.name FROM orders o JOIN customers c ON c.id = o.customer_id JOIN addresses a ON a.id = \
         o.address_id JOIN items i ON i.order_id = o.id JOIN products p ON p.id = i.product_id LEFT JOIN shipments s ON \
         s.order_id = o.id LEFT JOIN warehouses w ON w.id = s.warehouse_id LEFT JOIN reviews r ON r.product_id = p.id LEFT \
         JOIN discounts d ON d.id = o.discount_id JOIN employees e ON e.id = o.employee_id WHERE o.created_at > $1 AND \
         c.country = $2 AND p.price BETWEEN $3 AND $4 ORDER BY o.created_at DESC LIMIT 50",
        150.0,
    ),
];

/// Whether a case of this part is asked for.
pub(super) fn has_case(only: Option<&str>) -> bool {
    only.is_none_or(|only| "facts".contains(only))
}

/// Measures, and writes the part into the document.
pub(super) fn run(options: &Options) -> Result<()> {
    let rounds = if options.quick { 1 } else { options.rounds };
    let mut text = String::from(
        "## Facts about a statement\n\nAn analysis of a text that was not seen before: PostgreSQL's parser, the walk, and the \
         end of the tree. Microseconds, median of rounds; the goal in brackets.\n\n| statement | bytes | time |\n|---|---|---|\n",
    );
    for (name, statement, goal) in CASES {
        let took = median(measure(statement, rounds)?.into_iter()).context("a round at least")?;
        say(format_args!("{name}: {took:.1} µs"));
        writeln!(text, "| {name} | {} | {took:.1} ({goal:.0}) |", statement.len())?;
    }
    if !options.quick {
        Part::Facts.write(&root().join("docs/benchmarks.md"), &text)?;
    }
    Ok(())
}

/// Microseconds of one analysis, for each round.
fn measure(statement: &str, rounds: u32) -> Result<Vec<f64>> {
    let limits = Limits::default();
    let round = || {
        let began = Instant::now();
        for _ in 0..ANALYSES {
            let facts = analyse(black_box(statement.as_bytes()), Encoding::Utf8, &limits);
            assert!(black_box(facts).is_ok(), "the statement parses");
        }
        began.elapsed().as_secs_f64() * 1e6 / f64::from(ANALYSES)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
        let measured = thread.spawn_scoped(scope, || (0..rounds).map(|_| round()).collect());
        Ok(measured?.join().expect("an analysis does not panic"))
    })
}
