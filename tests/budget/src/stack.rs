//! The stack that a program's functions use, from its instructions.

use anyhow::{Result, anyhow};
use aya_obj::{
    Function, Object,
    generated::{BPF_ADD, BPF_ALU64, BPF_K, BPF_LDX, BPF_MOV, BPF_ST, BPF_STX, BPF_X, bpf_insn},
};
use std::collections::BTreeMap;

/// The register that points to the end of the frame.
const FRAME: u8 = 10;
/// The lowest three bits of an operation code are its class.
const CLASS: u8 = 0x07;

/// Bytes of stack by program: the most that the program's own function or one that the object has besides uses.
pub fn of_object(object: &[u8]) -> Result<BTreeMap<String, u32>> {
    let object = Object::parse(object).map_err(|error| anyhow!("the object cannot be read: {error}"))?;
    let entries: BTreeMap<_, _> =
        object.programs.iter().map(|(name, program)| (program.function_key(), name.clone())).collect();
    let shared = object.functions.iter().filter(|(key, _)| !entries.contains_key(*key));
    let shared = shared.map(|(_, function)| of_function(function)).max().unwrap_or(0);
    let own = |key| object.functions.get(key).map_or(0, of_function);
    Ok(entries.iter().map(|(key, name)| (name.clone(), own(key).max(shared))).collect())
}

fn of_function(function: &Function) -> u32 {
    let lowest = deepest(&function.instructions);
    lowest.unsigned_abs()
}

/// The lowest offset from the frame pointer that is written, read or pointed to.
fn deepest(instructions: &[bpf_insn]) -> i32 {
    let mut lowest = 0;
    for (index, instruction) in instructions.iter().enumerate() {
        let class = instruction.code & CLASS;
        let offset = match u32::from(class) {
            BPF_LDX if instruction.src_reg() == FRAME => i32::from(instruction.off),
            BPF_ST | BPF_STX if instruction.dst_reg() == FRAME => i32::from(instruction.off),
            BPF_ALU64 => pointer(instruction, instructions.get(index + 1)),
            _ => 0,
        };
        lowest = lowest.min(offset);
    }
    lowest
}

/// `rX = r10; rX += -N`, which takes an address in the frame: -N.
fn pointer(copy: &bpf_insn, add: Option<&bpf_insn>) -> i32 {
    let is = |instruction: &bpf_insn, operation: u32| u32::from(instruction.code) == BPF_ALU64 | operation;
    match add {
        Some(add)
            if is(copy, BPF_MOV | BPF_X)
                && copy.src_reg() == FRAME
                && is(add, BPF_ADD | BPF_K)
                && add.dst_reg() == copy.dst_reg() =>
        {
            add.imm
        }
        _ => 0,
    }
}
