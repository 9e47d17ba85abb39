//! The stack that a program's functions use, from its instructions.

use anyhow::{Context, Result, anyhow};
use aya_obj::{
    Object, Program,
    generated::{
        BPF_ADD, BPF_ALU64, BPF_CALL, BPF_DW, BPF_IMM, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MOV, BPF_PSEUDO_CALL,
        BPF_PSEUDO_FUNC, BPF_ST, BPF_STX, BPF_X, bpf_insn,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// The register that points to the end of the frame.
const FRAME: u8 = 10;
/// The lowest three bits of an operation code are its class.
const CLASS: u8 = 0x07;

/// Bytes of stack by program: over the hungriest chain of calls, as the kernel counts it before Linux 6.9, where a frame
/// takes 32 bytes at least and a multiple of them (`check_max_stack_depth`).
pub fn of_object(object: &[u8]) -> Result<BTreeMap<String, u32>> {
    let mut object = Object::parse(object).map_err(|error| anyhow!("the object cannot be read: {error}"))?;
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).map_err(|error| anyhow!("calls cannot be resolved: {error}"))?;
    let of_program = |program: &Program| {
        let linked = object.functions.get(&program.function_key()).context("a program without code")?;
        Ok::<_, anyhow::Error>(Chain::new(&linked.instructions).bytes(0))
    };
    object.programs.iter().map(|(name, program)| Ok((name.clone(), of_program(program)?))).collect()
}

/// The functions of a linked program, the first one being the program itself.
struct Chain {
    /// Where each begins, in order.
    starts: Vec<usize>,
    /// Bytes of its frame.
    frames: Vec<u32>,
    /// Which functions it calls, or hands to a helper that calls them.
    calls: Vec<BTreeSet<usize>>,
}

impl Chain {
    fn new(instructions: &[bpf_insn]) -> Self {
        let target = |(index, instruction): (usize, &bpf_insn)| {
            let is_call = u32::from(instruction.code) == BPF_JMP | BPF_CALL
                && u32::from(instruction.src_reg()) == BPF_PSEUDO_CALL;
            let is_callback = u32::from(instruction.code) == BPF_LD | BPF_IMM | BPF_DW
                && u32::from(instruction.src_reg()) == BPF_PSEUDO_FUNC;
            (is_call || is_callback).then(|| index.wrapping_add_signed(instruction.imm as isize + 1))
        };
        let targets: Vec<_> = instructions.iter().enumerate().map(target).collect();
        let starts: Vec<usize> =
            [0].into_iter().chain(targets.iter().flatten().copied()).collect::<BTreeSet<_>>().into_iter().collect();
        let ends = starts.iter().skip(1).copied().chain([instructions.len()]);
        let ranges: Vec<_> = starts.iter().copied().zip(ends).collect();
        let number = |start: usize| starts.partition_point(|other| *other < start);
        Self {
            frames: ranges.iter().map(|(start, end)| deepest(&instructions[*start..*end]).unsigned_abs()).collect(),
            calls: ranges
                .iter()
                .map(|(start, end)| targets[*start..*end].iter().flatten().map(|to| number(*to)).collect())
                .collect(),
            starts,
        }
    }

    /// The most that a function and those below it take.
    fn bytes(&self, function: usize) -> u32 {
        debug_assert!(function < self.starts.len());
        let below = self.calls[function].iter().map(|callee| self.bytes(*callee)).max().unwrap_or(0);
        self.frames[function].max(1).next_multiple_of(32) + below
    }
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
