//! Where the frames and messages in a stream of bytes begin and end.
//!
//! The WebSocket library reads ahead and tells of a message when it has all of it. Limits have to hold before that: this
//! room looks at the bytes on their way to the library and knows how large the message is that they belong to. It
//! checks nothing that the library checks.

use std::io::Cursor;

use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const LONGEST_HEADER: usize = 14;
const OPCODE_BITS: u8 = 0x0f;
const TEXT: u8 = 1;
const BINARY: u8 = 2;

/// Follows one direction of one socket.
#[derive(Default)]
pub(super) struct Borders {
    header: [u8; LONGEST_HEADER],
    header_length: u8,
    /// What is left of the current frame's payload.
    payload_left: u64,
    /// Whether the current frame is a control frame, and whether it is its message's last.
    control: bool,
    last: bool,
    /// Whether a message in several frames has begun and not ended.
    fragmented: bool,
    message_bytes: u64,
    /// Control frames and messages that ended.
    ended: u64,
    /// The library is about to refuse these bytes.
    broken: bool,
}

impl Borders {
    /// Takes note of the next bytes. Text frames become binary ones, so that invalid UTF-8 is answered by the packet
    /// decoder as any malformed packet is, and does not end the connection in the library.
    pub(super) fn walk(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() && !self.broken {
            let taken = if self.payload_left > 0 { self.walk_payload(bytes) } else { self.walk_header(bytes) };
            bytes = &mut bytes[taken..];
        }
    }

    /// The size of the message that is under way or just ended, as far as its frames' headers tell.
    pub(super) fn message_bytes(&self) -> u64 {
        self.message_bytes
    }

    /// How much has come of the message that is under way, but for a control frame inside of it.
    pub(super) fn arrived_bytes(&self) -> u64 {
        self.message_bytes.saturating_sub(self.payload_left)
    }

    /// How many control frames and messages have ended.
    pub(super) fn ended(&self) -> u64 {
        self.ended
    }

    /// Whether neither a frame nor a message is incomplete.
    pub(super) fn at_border(&self) -> bool {
        self.payload_left == 0 && self.header_length == 0 && !self.fragmented
    }

    /// How many bytes may be read without reading past the current message.
    pub(super) fn to_next_border(&self) -> usize {
        // A header's length shows in its first bytes only, so one is read at a time.
        usize::try_from(self.payload_left.max(1)).unwrap_or(usize::MAX)
    }

    fn walk_payload(&mut self, bytes: &[u8]) -> usize {
        let taken = usize::try_from(self.payload_left).unwrap_or(usize::MAX).min(bytes.len());
        self.payload_left -= taken as u64;
        self.end_frame_if_complete();
        taken
    }

    fn walk_header(&mut self, bytes: &mut [u8]) -> usize {
        let known = usize::from(self.header_length);
        if known == 0 && bytes[0] & OPCODE_BITS == TEXT {
            bytes[0] ^= TEXT ^ BINARY;
        }
        let seen = (known + bytes.len()).min(LONGEST_HEADER);
        self.header[known..seen].copy_from_slice(&bytes[..seen - known]);
        let mut cursor = Cursor::new(&self.header[..seen]);
        match FrameHeader::parse(&mut cursor) {
            Ok(Some((header, length))) => {
                let end = usize::try_from(cursor.position()).expect("a header is 14 bytes at most");
                self.header_length = 0;
                self.begin_frame(&header, length);
                end - known
            }
            Ok(None) => {
                self.header_length = u8::try_from(seen).expect("a header is 14 bytes at most");
                seen - known
            }
            Err(_) => {
                self.broken = true;
                bytes.len()
            }
        }
    }

    fn begin_frame(&mut self, header: &FrameHeader, length: u64) {
        self.control = matches!(header.opcode, OpCode::Control(_));
        self.last = header.is_final;
        self.payload_left = length;
        if !self.control {
            let continued = self.fragmented && header.opcode == OpCode::Data(Data::Continue);
            let before = if continued { self.message_bytes } else { 0 };
            self.message_bytes = before.saturating_add(length);
        }
        self.end_frame_if_complete();
    }

    fn end_frame_if_complete(&mut self) {
        if self.payload_left > 0 {
            return;
        }
        if !self.control {
            self.fragmented = !self.last;
        }
        if self.control || self.last {
            self.ended += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A masked frame; the mask is zero, so that payloads can be read.
    fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first_byte];
        match payload.len() {
            length @ ..126 => bytes.push(0x80 | u8::try_from(length).unwrap()),
            length => {
                bytes.push(0x80 | 126);
                bytes.extend_from_slice(&u16::try_from(length).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn fragments_add_up_and_a_ping_between_them_does_not() {
        let mut borders = Borders::default();
        borders.walk(&mut frame(0x01, &[b'a'; 300]));
        borders.walk(&mut frame(0x89, b"ping"));
        assert!(!borders.at_border());
        assert_eq!((borders.message_bytes(), borders.ended()), (300, 1));
        borders.walk(&mut frame(0x80, &[b'b'; 50]));
        assert!(borders.at_border());
        assert_eq!((borders.message_bytes(), borders.ended()), (350, 2));
    }

    #[test]
    fn text_becomes_binary_and_payloads_stay() {
        let mut bytes = [frame(0x81, &[0x81, 0x01]), frame(0x89, &[0x01])].concat();
        Borders::default().walk(&mut bytes);
        assert_eq!(bytes, [frame(0x82, &[0x81, 0x01]), frame(0x89, &[0x01])].concat());
    }

    #[test]
    fn a_claimed_length_is_known_before_any_payload_came() {
        let mut borders = Borders::default();
        borders.walk(&mut [0x82, 0xff, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
        assert_eq!((borders.message_bytes(), borders.arrived_bytes()), (0x7fff_ffff, 0));
        assert_eq!(borders.to_next_border(), 0x7fff_ffff);
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_does_not_matter(
            payloads in prop::collection::vec((0..400_usize, any::<bool>()), 1..6),
            cuts in prop::collection::vec(1..50_usize, 1..100),
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            for (length, control) in &payloads {
                let first_byte = if *control { 0x8a } else { 0x82 };
                bytes.extend(frame(first_byte, &vec![7; if *control { length % 126 } else { *length }]));
            }
            let mut borders = Borders::default();
            let mut rest = bytes.as_mut_slice();
            for cut in cuts.iter().cycle() {
                let (head, tail) = rest.split_at_mut((*cut).min(rest.len()));
                borders.walk(head);
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert!(borders.at_border());
            prop_assert_eq!(borders.ended(), payloads.len() as u64);
        }

        #[test]
        fn any_bytes_can_be_walked(mut bytes: Vec<u8>) {
            Borders::default().walk(&mut bytes);
        }
    }
}
