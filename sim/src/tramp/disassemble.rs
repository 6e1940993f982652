//! Trampolines read back: one line per instruction, with what it is for. `report::cost` prints them.

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

use super::Code;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
pub struct Line {
    /// From the trampoline's start.
    pub offset: usize,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// In Intel syntax.
    pub text: String,
    /// What it is for; empty if it says so itself.
    pub note: String,
}

impl Code {
    /// One line per instruction.
    pub fn lines(&self) -> Vec<Line> {
        let mut formatter = IntelFormatter::new();
        formatter
            .options_mut()
            .set_space_after_operand_separator(true);
        formatter.options_mut().set_rip_relative_addresses(true);
        let mut decoder = Decoder::with_ip(64, &self.bytes, self.at, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut lines = Vec::new();
        while decoder.can_decode() {
            let offset = decoder.position();
            decoder.decode_out(&mut instruction);
            let mut text = String::new();
            formatter.format(&instruction, &mut text);
            let note = self.notes.iter().find(|(at, _)| *at == offset);
            lines.push(Line {
                offset,
                bytes: self.bytes[offset..decoder.position()].to_vec(),
                text,
                note: note.map(|(_, note)| note.clone()).unwrap_or_default(),
            });
        }
        lines
    }
}
