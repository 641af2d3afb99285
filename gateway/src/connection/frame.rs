//! WebSocket frames as they leave: unmasked and whole, so that the same bytes serve every socket.

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::frame::FrameHeader;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// A ping without a payload.
pub(crate) const PING: Bytes = Bytes::from_static(&[0x89, 0x00]);

/// The frame of one packet. The payload's buffer becomes the frame's: what is large is moved, not copied.
pub(crate) fn text(mut payload: Vec<u8>) -> Bytes {
    let header = header(OpCode::Data(Data::Text), payload.len());
    payload.splice(..0, header);
    Bytes::from(payload)
}

/// The frame that says why the socket is closed. The reason is short: a control frame holds 125 bytes.
pub(super) fn close(code: u16, reason: &'static str) -> Bytes {
    let mut frame = header(OpCode::Control(Control::Close), 2 + reason.len());
    frame.extend_from_slice(&code.to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    Bytes::from(frame)
}

fn header(opcode: OpCode, length: usize) -> Vec<u8> {
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = Vec::with_capacity(10);
    header.format(length as u64, &mut bytes).expect("a vector takes every byte");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_the_length_in_the_shortest_of_three_forms() {
        assert_eq!(text(b"{}".to_vec()).as_ref(), [0x81, 2, b'{', b'}']);
        assert_eq!(text(vec![b'x'; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(text(vec![b'x'; 65_536])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_close_frame_carries_code_and_reason() {
        assert_eq!(close(1001, "bye").as_ref(), [0x88, 5, 0x03, 0xe9, b'b', b'y', b'e']);
    }
}
