//! Whole invocations of built programs: the body comes in over the Runtime API, the rows go out to the sink, which checks them. The
//! contestants take turns in every round, so that whatever the machine does beside meets all of them.

use std::sync::Arc;

use anyhow::{Context, ensure};
use serde_json::json;
use strait_cli::runtime_api::{Function, InvocationOutcome};

use crate::contestants::{Contestant, Field};
use crate::cpu::Process;
use crate::inputs::Input;
use crate::report::{Report, Samples};
use crate::sink::Received;

/// One program with one kind of event.
struct Entry {
    contestant: Contestant,
    input: Arc<Input>,
    /// Invocations in a round: of small events several, for the clock's sake.
    times: usize,
    /// The figure's name in the file, and in words.
    name: &'static str,
    what: &'static str,
    wire: Option<(&'static str, &'static str)>,
    function: Function,
    process: Process,
    cpu: Samples,
    bytes: Samples,
    answer_bytes: Samples,
}

/// CPU time and bytes per record of all contestants.
pub async fn measure(field: &Field, short: bool, report: &mut Report) -> anyhow::Result<()> {
    let [small, middle, large] = [100, 1000, 5000].map(|records| Input::of(records).map(Arc::new));
    let (small, middle, large) = (small?, middle?, large?);
    report.only_in_file("event_bytes", json!(large.event.len()));
    let entries = [
        (
            Contestant::Strait,
            &large,
            1,
            "invocation_tls_gzip_ns",
            "ingest, 5,000 records, TLS and gzip",
            Some(("wire_bytes", "its bytes on the wire")),
        ),
        (Contestant::Strait, &middle, 3, "invocation_1000_ns", "ingest, 1,000 records, TLS and gzip", None),
        (
            Contestant::Strait,
            &small,
            10,
            "invocation_100_ns",
            "ingest, 100 records, TLS and gzip",
            Some(("wire_bytes_100", "its bytes on the wire")),
        ),
        (
            Contestant::StraitWithoutGzip,
            &large,
            1,
            "invocation_tls_plain_ns",
            "ingest, 5,000 records, TLS without gzip",
            Some(("wire_bytes_tls_plain", "its bytes on the wire")),
        ),
        (
            Contestant::StraitPlain,
            &large,
            1,
            "invocation_http_plain_ns",
            "ingest, 5,000 records, neither TLS nor gzip",
            Some(("wire_bytes_plain", "its bytes on the wire")),
        ),
        (
            Contestant::InsertAll,
            &large,
            1,
            "crate_insert_all_ns",
            "gcp-bigquery-client's insert_all, TLS and gzip",
            Some(("crate_insert_all_wire_bytes", "its bytes on the wire")),
        ),
        (
            Contestant::PythonObvious,
            &large,
            1,
            "python_insert_rows_json_ns",
            "Python on Lambda: json, insert_rows_json, TLS",
            Some(("python_insert_rows_json_wire_bytes", "its bytes on the wire")),
        ),
        (
            Contestant::PythonBest,
            &large,
            1,
            "python_best_ns",
            "Python on Lambda: orjson, Storage Write API, TLS and gzip",
            Some(("python_best_wire_bytes", "its bytes on the wire")),
        ),
        (
            Contestant::PythonBare,
            &large,
            1,
            "python_bare_ns",
            "the same, given the event's bytes instead of AWS's runtime client",
            None,
        ),
    ];
    let mut started = Vec::new();
    for (contestant, input, times, name, what, wire) in entries {
        let function = field.start(contestant).await?;
        started.push(Entry {
            process: Process::of(function.process_id())?,
            function,
            contestant,
            input: Arc::clone(input),
            times,
            name,
            what,
            wire,
            cpu: Samples::default(),
            bytes: Samples::default(),
            answer_bytes: Samples::default(),
        });
    }
    let rounds = if short { 3 } else { 40 };
    // The first ones connect, fetch tokens and fill caches.
    let warm_up = if short { 1 } else { 5 };
    for round in 0..rounds + warm_up {
        for entry in &mut started {
            let before = entry.process.cpu_ns_at_rest().await?;
            let received = invoke(field, (entry.contestant, &entry.function), &entry.input, entry.times)
                .await
                .with_context(|| format!("{:?}", entry.contestant))?;
            let after = entry.process.cpu_ns_at_rest().await?;
            if round >= warm_up {
                let records = (entry.input.records.len() * entry.times) as f64;
                entry.cpu.push((after - before) as f64 / records);
                entry.bytes.push(received.bytes_in as f64 / records);
                entry.answer_bytes.push(received.bytes_out as f64 / records);
            }
        }
    }
    for entry in &started {
        ensure!(entry.function.starts() == 1, "{} ended in between:\n{}", entry.name, entry.function.log());
        report.samples(entry.name, entry.what, "ns/record", &entry.cpu);
        if let Some((name, what)) = entry.wire {
            report.samples(name, what, "B/record", &entry.bytes);
            report.only_in_file(&format!("{name}_answers"), json!(entry.answer_bytes.median()));
        }
    }
    ratios(&started, report)
}

fn ratios(entries: &[Entry], report: &mut Report) -> anyhow::Result<()> {
    let of = |name: &str| entries.iter().find(|entry| entry.name == name).map(|entry| &entry.cpu).context("an entry");
    let strait = of("invocation_tls_gzip_ns")?;
    for (name, other, what) in [
        ("vs_crate_insert_all", "crate_insert_all_ns", "ingest against the crate's insert_all"),
        ("vs_python_best", "python_best_ns", "ingest against the best Python"),
        ("vs_python_bare", "python_bare_ns", "ingest against the same without AWS's runtime client"),
        ("vs_python_obvious", "python_insert_rows_json_ns", "ingest against the obvious Python"),
    ] {
        let other = of(other)?;
        report.ratio(name, what, other.median() / strait.median(), other.minimum() / strait.minimum());
    }
    Ok(())
}

/// Invokes `times` times and lets the sink check what arrived.
async fn invoke(
    field: &Field,
    (contestant, function): (Contestant, &Function),
    input: &Arc<Input>,
    times: usize,
) -> anyhow::Result<Received> {
    field.sink.expect(input, contestant.keeps_the_text(), None);
    for _ in 0..times {
        one(function, input).await?;
    }
    field.sink.received(times)
}

async fn one(function: &Function, input: &Input) -> anyhow::Result<()> {
    let outcome = function.invoke(input.event.clone()).await?.outcome;
    let InvocationOutcome::Response(answer) = &outcome else {
        anyhow::bail!("the function failed: {outcome:?}\n{}", function.log());
    };
    let answer: serde_json::Value = serde_json::from_slice(answer)?;
    ensure!(answer == json!({"batchItemFailures": []}), "records were given back: {answer}");
    Ok(())
}

/// The most memory, on the largest event there is, and whether it stays the same over many invocations.
pub async fn measure_memory(field: &Field, short: bool, report: &mut Report) -> anyhow::Result<()> {
    const MB: f64 = 1_000_000.0;
    let largest = Arc::new(Input::largest()?);
    let function = field.start(Contestant::Strait).await?;
    for _ in 0..if short { 2 } else { 20 } {
        invoke(field, (Contestant::Strait, &function), &largest, 1).await?;
    }
    let process = Process::of(function.process_id())?;
    let what = "most memory, events of 6 MB";
    report.value("peak_rss_mb", what, "MB", process.peak_bytes()? as f64 / MB);
    drop(function);
    if short {
        return Ok(());
    }
    let large = Arc::new(Input::of(5000)?);
    let function = field.start(Contestant::Strait).await?;
    invoke(field, (Contestant::Strait, &function), &large, 1).await?;
    let process = Process::of(function.process_id())?;
    let mut resident = Vec::new();
    for invocation in 2..=1000 {
        invoke(field, (Contestant::Strait, &function), &large, 1).await?;
        if invocation % 100 == 0 {
            process.cpu_ns_at_rest().await?;
            resident.push(process.resident_bytes()? as f64 / MB);
        }
    }
    let (first, last) = (resident.first().copied().unwrap_or_default(), resident.last().copied().unwrap_or_default());
    report.value("rss_mb_after_100", "memory after 100 invocations of 5,000 records", "MB", first);
    report.value("rss_mb_after_1000", "memory after 1,000", "MB", last);
    report.value("peak_rss_mb_1000", "the most in between", "MB", process.peak_bytes()? as f64 / MB);
    report.only_in_file("rss_mb_each_100", json!(resident));
    Ok(())
}

/// From the process' start until its first append has arrived.
pub async fn measure_cold_start(field: &Field, short: bool, report: &mut Report) -> anyhow::Result<()> {
    let input = Arc::new(Input::of(1)?);
    let (mut ready, mut first) = (Samples::default(), Samples::default());
    for _ in 0..if short { 3 } else { 25 } {
        let function = field.start(Contestant::Strait).await?;
        let process = Process::of(function.process_id())?;
        ready.push(process.cpu_ns_at_rest().await? as f64 / 1e6);
        field.sink.expect(&input, true, Some(process.clone()));
        one(&function, &input).await?;
        let cpu_ns = field.sink.received(1)?.cpu_ns_at_first_append.context("no append arrived")?;
        first.push(cpu_ns as f64 / 1e6);
    }
    report.samples("cold_start_ready_cpu_ms", "cold start until it asks for an event", "ms CPU", &ready);
    report.samples("cold_start_cpu_ms", "cold start until the first append has arrived", "ms CPU", &first);
    Ok(())
}
