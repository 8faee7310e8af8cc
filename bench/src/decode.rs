//! The stages between an event's bytes and rows, in this process.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;

use anyhow::{Context, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::value::RawValue;
use sonic_rs::{LazyValue, to_object_iter};
use strait::config::TableFilter;
use strait::log::LogBatch;
use strait::{dms, kafka};

use crate::cpu;
use crate::inputs::Input;
use crate::report::{Report, Samples};

const RECORDS: usize = 5000;
/// Levels of gzip that rows might be sent with.
const LEVELS: [u32; 6] = [1, 2, 3, 4, 5, 6];

/// All stages in turn, each round.
pub fn measure(short: bool, report: &mut Report) -> anyhow::Result<()> {
    let input = Input::of(RECORDS)?;
    let filter = TableFilter::parse("*").map_err(anyhow::Error::msg)?;
    let event = kafka::decode_event(&input.event)?;
    let mut messages = Vec::with_capacity(RECORDS);
    for record in &event.records {
        let kafka::Payload::Base64(text) = &record.value else { anyhow::bail!("a record without a value") };
        messages.push(String::from_utf8(STANDARD.decode(text.as_ref())?)?);
    }
    let batch = LogBatch::from_event(&event, &filter, 1_772_442_000_000_000);
    let rows: Vec<u8> = batch.rows.iter().flat_map(|row| row.bytes.iter().copied()).collect();
    let mut levels = LEVELS.map(|level| (level, Samples::default(), 0));
    let [mut whole, mut outer, mut envelope, mut members, mut sonic] = [(); 5].map(|()| Samples::default());
    for _ in 0..if short { 5 } else { 60 } {
        whole.push(per_record(|| {
            let event = kafka::decode_event(&input.event)?;
            let batch = LogBatch::from_event(&event, &filter, 1_772_442_000_000_000);
            ensure!(black_box(batch.tally).records == RECORDS as u64, "records were lost");
            Ok(())
        })?);
        outer.push(per_record(|| {
            black_box(kafka::decode_event(&input.event)?);
            Ok(())
        })?);
        envelope.push(per_record(|| {
            for message in &messages {
                black_box(dms::decode_message(message).context("a message that is none")?);
            }
            Ok(())
        })?);
        // The same work for both: every member of the envelope and of the metadata, as the text that it was received as.
        members.push(per_record(|| {
            for message in &messages {
                let envelope: BTreeMap<&str, &RawValue> = serde_json::from_str(message)?;
                let metadata = envelope.get("metadata").context("no metadata")?;
                black_box(serde_json::from_str::<BTreeMap<&str, &RawValue>>(metadata.get())?);
            }
            Ok(())
        })?);
        for (level, time, bytes) in &mut levels {
            time.push(per_record(|| {
                let mut compressed = GzEncoder::new(Vec::with_capacity(rows.len() / 2), Compression::new(*level));
                compressed.write_all(&rows)?;
                *bytes = black_box(compressed.finish()?).len();
                Ok(())
            })?);
        }
        sonic.push(per_record(|| {
            for message in &messages {
                let envelope = sonic_members(message)?;
                let metadata = envelope.get("metadata").context("no metadata")?;
                black_box(sonic_members(metadata.as_raw_str())?);
            }
            Ok(())
        })?);
    }
    report.samples(
        "decode_members_serde_ns",
        "finding an envelope's members alone, by serde_json",
        "ns/record",
        &members,
    );
    report.samples("decode_members_sonic_ns", "… by sonic-rs", "ns/record", &sonic);
    report.samples("decode_ns", "decode: event to encoded rows, all stages", "ns/record", &whole);
    report.samples("decode_event_ns", "of that the Kafka event", "ns/record", &outer);
    report.samples("decode_envelope_ns", "of that the DMS envelope", "ns/record", &envelope);
    report.value(
        "decode_base64_and_rows_ns",
        "of that base64, surrogates and rows (the rest)",
        "ns/record",
        whole.median() - outer.median() - envelope.median(),
    );
    for (level, time, bytes) in &levels {
        let bytes = *bytes as f64 / RECORDS as f64;
        let name = format!("gzip_{level}_ns");
        report.samples(&name, &format!("gzip of the rows, level {level}: {bytes:.0} B/record"), "ns/record", time);
    }
    Ok(())
}

fn sonic_members(text: &str) -> anyhow::Result<BTreeMap<Cow<'_, str>, LazyValue<'_>>> {
    to_object_iter(text).map(|member| Ok(member?)).collect()
}

fn per_record(mut stage: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let before = cpu::of_this_thread()?;
    stage()?;
    Ok((cpu::of_this_thread()? - before) as f64 / RECORDS as f64)
}
