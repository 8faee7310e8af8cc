//! One AppendRows request as the bytes that go over the wire: a gRPC message whose rows are copied once, straight from where they
//! were encoded, and compressed on the way. The generated types would hold each row in a vector of its own, and tonic compresses
//! at level 6, which takes nearly three times the compressor's time for 76 B a record instead of 86 (`make bench`: "gzip of the rows").
//! It must never change a row, and never hold more of the request than the bytes that are sent.

use std::io::{self, BufWriter, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::ProtoData;
use gcp_bigquery_client::google::cloud::bigquery::storage::v1::{AppendRowsRequest, ProtoSchema};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use prost_types::DescriptorProto;

/// The request's field `proto_rows`, a `ProtoData`
/// (<https://cloud.google.com/bigquery/docs/reference/storage/rpc/google.cloud.bigquery.storage.v1#appendrowsrequest>).
const PROTO_ROWS: u32 = 4;
/// `ProtoData`'s field `rows`, a `ProtoRows`.
const ROWS: u32 = 2;
/// `ProtoRows`' field `serialized_rows`.
const SERIALIZED_ROWS: u32 = 1;
/// A gRPC message begins with whether it is compressed, and its length in four bytes
/// (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#requests>).
const FRAME_HEADER: usize = 5;
/// Rows shrink to less than a quarter (`make bench`: 357 B a record to 87), so that the frame need not grow, which copies it.
const EXPECTED_RATIO: usize = 4;
/// zlib-rs' first level has one fixed code for all data, its second one that fits them: 86 B a record instead of 109, for two thirds more of the
/// compressor's time. Every further one costs more than the second and saves less (`make bench`: "gzip of the rows"). A gigabyte that leaves
/// AWS costs as much as nearly four hours of Lambda at 512 MB (docs/cost.md).
const LEVEL: u32 = 2;
/// What the compressor is given at a time: rows of some hundred bytes each would call it too often.
const CHUNK: usize = 64 * 1024;

/// What a request says beside its rows.
pub(super) struct Envelope<'a> {
    pub(super) write_stream: String,
    pub(super) offset: Option<i64>,
    pub(super) trace_id: &'a str,
    pub(super) descriptor: &'a DescriptorProto,
}

/// The request as one gRPC message.
///
/// # Errors
/// When it is longer than a gRPC message can be (4 GiB).
pub(super) fn encode<'r>(
    envelope: Envelope<'_>,
    rows: impl Iterator<Item = &'r [u8]> + Clone,
    gzip: bool,
) -> io::Result<Bytes> {
    let head = AppendRowsRequest {
        write_stream: envelope.write_stream,
        offset: envelope.offset,
        trace_id: envelope.trace_id.to_owned(),
        ..AppendRowsRequest::default()
    };
    let schema = ProtoData {
        writer_schema: Some(ProtoSchema { proto_descriptor: Some(envelope.descriptor.clone()) }),
        rows: None,
    };
    let rows_length: usize =
        rows.clone().map(|row| key_len(SERIALIZED_ROWS) + encoded_len_varint(size(row.len())) + row.len()).sum();
    let mut plain_head = head.encode_to_vec();
    let schema = schema.encode_to_vec();
    let data_length = schema.len() + key_len(ROWS) + encoded_len_varint(size(rows_length)) + rows_length;
    put_length(&mut plain_head, PROTO_ROWS, data_length);
    plain_head.extend_from_slice(&schema);
    put_length(&mut plain_head, ROWS, rows_length);

    let length = plain_head.len() + rows_length;
    let room = if gzip { length / EXPECTED_RATIO } else { length };
    let mut frame = Vec::with_capacity(FRAME_HEADER + room);
    frame.extend_from_slice(&[u8::from(gzip), 0, 0, 0, 0]);
    if gzip {
        let mut compressed = BufWriter::with_capacity(CHUNK, GzEncoder::new(frame, Compression::new(LEVEL)));
        put_rows(&mut compressed, &plain_head, rows)?;
        frame = compressed.into_inner().map_err(io::IntoInnerError::into_error)?.finish()?;
    } else {
        put_rows(&mut frame, &plain_head, rows)?;
    }
    let body = u32::try_from(frame.len() - FRAME_HEADER).map_err(io::Error::other)?;
    if let Some(header) = frame.get_mut(1..FRAME_HEADER) {
        header.copy_from_slice(&body.to_be_bytes());
    }
    Ok(Bytes::from(frame))
}

fn put_rows<'r>(to: &mut impl Write, head: &[u8], rows: impl Iterator<Item = &'r [u8]>) -> io::Result<()> {
    to.write_all(head)?;
    let mut key = Vec::with_capacity(16);
    for row in rows {
        key.clear();
        put_length(&mut key, SERIALIZED_ROWS, row.len());
        to.write_all(&key)?;
        to.write_all(row)?;
    }
    Ok(())
}

/// A field's key and the length of what follows.
fn put_length(to: &mut Vec<u8>, field: u32, length: usize) {
    encode_key(field, WireType::LengthDelimited, to);
    encode_varint(size(length), to);
}

/// `usize` has 64 bits at most on every platform there is.
fn size(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

    use std::io::Read;

    use gcp_bigquery_client::google::cloud::bigquery::storage::v1::ProtoRows;
    use gcp_bigquery_client::google::cloud::bigquery::storage::v1::append_rows_request::Rows;
    use proptest::prelude::*;

    use super::*;

    fn message(frame: &[u8], is_compressed: bool) -> Vec<u8> {
        assert_eq!(frame[0], u8::from(is_compressed));
        let length = u32::from_be_bytes(frame[1..5].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), frame.len() - 5);
        if !is_compressed {
            return frame[5..].to_vec();
        }
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&frame[5..]).read_to_end(&mut plain).unwrap();
        plain
    }

    proptest! {
        /// The generated types read what was written, compressed or not.
        #[test]
        fn prost_reads_the_request(
            rows in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 0..40),
            offset in any::<Option<i64>>(),
            gzip in any::<bool>(),
        ) {
            let descriptor = crate::log::LOG.proto_descriptor();
            let envelope = Envelope {
                write_stream: "projects/p/datasets/cdc/tables/log/streams/_default".to_owned(),
                offset,
                trace_id: "strait:1",
                descriptor: &descriptor,
            };
            let frame = encode(envelope, rows.iter().map(Vec::as_slice), gzip).unwrap();
            let expected = AppendRowsRequest {
                write_stream: "projects/p/datasets/cdc/tables/log/streams/_default".to_owned(),
                offset,
                trace_id: "strait:1".to_owned(),
                rows: Some(Rows::ProtoRows(ProtoData {
                    writer_schema: Some(ProtoSchema { proto_descriptor: Some(descriptor.clone()) }),
                    rows: Some(ProtoRows { serialized_rows: rows }),
                })),
                ..AppendRowsRequest::default()
            };
            prop_assert_eq!(AppendRowsRequest::decode(message(&frame, gzip).as_slice()).unwrap(), expected);
        }
    }
}
