//! Base64 in a text: where it stands, what it holds, and how it is written anew.
//!
//! Invariant: a blob is written anew in the shape it had, line width and indentation included, or not at all.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use std::ops::Range;

/// A run of base64, over one line or several.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob {
    pub range: Range<usize>,
    pub bytes: Vec<u8>,
    /// The width of a full line, and what stands between two.
    wrapped: Option<(usize, String)>,
    padded: bool,
}

impl Blob {
    /// Writes other bytes in the shape of this blob.
    pub fn write(&self, bytes: &[u8]) -> String {
        let engine = if self.padded { &general_purpose::STANDARD } else { &general_purpose::STANDARD_NO_PAD };
        let text = engine.encode(bytes);
        let Some((width, between)) = &self.wrapped else { return text };
        let lines: Vec<&str> =
            (0..text.len()).step_by(*width).map(|at| &text[at..text.len().min(at + width)]).collect();
        lines.join(between)
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

/// The parts of `word`'s base64 that do not depend on what stands around it, one for each alignment.
pub fn shapes(word: &str) -> Vec<String> {
    let shape = |skew: usize| {
        let padded: Vec<u8> = std::iter::repeat_n(0, skew).chain(word.bytes()).collect();
        let text = general_purpose::STANDARD_NO_PAD.encode(&padded);
        let (skip, whole) = ([0, 2, 3][skew], padded.len() * 8 / 6);
        text.get(skip..whole).unwrap_or_default().to_owned()
    };
    (0..3).map(shape).filter(|shape| shape.len() >= 6).collect()
}

/// Reads the blob around a place; nothing where it is too short to be one, or does not decode.
pub fn around(text: &[u8], at: usize) -> Option<Blob> {
    let start = at - text[..at].iter().rev().take_while(|byte| is_base64(**byte)).count();
    let end = at + text[at..].iter().take_while(|byte| is_base64(**byte)).count();
    let (mut first, mut last, alone) = (start..end, start..end, start..end);
    let mut lines = Vec::from([first.clone()]);
    while let Some(above) = neighbour(text, &first, false) {
        first = above.clone();
        lines.insert(0, above);
    }
    while let Some(below) = neighbour(text, &last, true) {
        last = below.clone();
        lines.push(below);
    }
    // The first line may be the shorter one only where it is alone.
    let width = lines[0].len();
    let uniform = lines.iter().rev().skip(1).all(|line| line.len() == width);
    if !uniform {
        lines = Vec::from([alone]);
    }
    let mut body: Vec<u8> = Vec::new();
    for line in &lines {
        body.extend_from_slice(&text[line.clone()]);
    }
    let stop = lines.last()?.end;
    let padding = text[stop..].iter().take_while(|byte| **byte == b'=').take(2).count();
    if body.len() < 12 {
        return None;
    }
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let mut bytes = GeneralPurpose::new(&STANDARD, lenient).decode(&body).ok();
    if bytes.is_none() && body.len() % 4 == 1 {
        // A run that is cut, for example by a limit of columns.
        body.pop();
        bytes = GeneralPurpose::new(&STANDARD, lenient).decode(&body).ok();
    }
    let between = lines.get(1).map(|second| String::from_utf8_lossy(&text[lines[0].end..second.start]).into_owned());
    let begin = lines[0].start;
    Some(Blob {
        range: begin..stop + padding,
        bytes: bytes?,
        wrapped: between.map(|between| (width, between)),
        padded: padding > 0 || body.len().is_multiple_of(4),
    })
}

/// The line above or below, where it is base64 and nothing else.
fn neighbour(text: &[u8], line: &Range<usize>, below: bool) -> Option<Range<usize>> {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\r');
    // This line itself must have nothing beside it.
    let (from, to) = super::line::bounds(text, line.start);
    let alone = text[from..line.start].iter().all(|byte| blank(*byte))
        && text[line.end..to].iter().all(|byte| blank(*byte) || *byte == b'=');
    if !alone || (below && text.get(line.end) == Some(&b'=')) {
        return None;
    }
    let (from, to) = if below {
        super::line::bounds(text, (to < text.len()).then_some(to + 1)?)
    } else {
        super::line::bounds(text, from.checked_sub(1)?)
    };
    let start = from + text[from..to].iter().take_while(|byte| blank(**byte)).count();
    let end = start + text[start..to].iter().take_while(|byte| is_base64(**byte)).count();
    let rest = text[end..to].iter().all(|byte| blank(*byte) || (below && *byte == b'='));
    (rest && end > start && (below || end - start >= 20)).then_some(start..end)
}

/// Every run in a text that says somewhere that it holds base64.
pub fn all(text: &[u8]) -> Vec<Blob> {
    let mut blobs: Vec<Blob> = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let run = text[at..].iter().take_while(|byte| is_base64(**byte)).count();
        if run >= 20 && blobs.last().is_none_or(|blob| blob.range.end <= at) {
            blobs.extend(around(text, at));
        }
        at += run.max(1);
    }
    blobs
}
