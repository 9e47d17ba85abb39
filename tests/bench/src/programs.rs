//! The benchmark's own kernel programs.

use crate::{
    abi::{Ends, FLOWS, Flow, Frame, PAIRS},
    flows::FiveTuple,
};
use anyhow::{Context, Result, anyhow, ensure};
use aya::{Ebpf, EbpfLoader, maps::Map, programs::Program};
use bytemuck::Pod;
use std::{
    collections::HashMap,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};
use vpc_bpf::{PerCpuTable, Table};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/vpc-bench.o"));

/// The loaded programs and their maps.
pub struct Programs {
    object: Ebpf,
    frame: Table<u32, Frame>,
    flows: Table<u32, Flow>,
    ends: Table<u32, Ends>,
    next: Table<u32, u32>,
    target: Table<u32, u32>,
    devices: Table<u32, [u32; 2]>,
    count: PerCpuTable<u64>,
}

impl Programs {
    /// Loads them.
    ///
    /// # Errors
    /// The kernel refuses one.
    pub fn load() -> Result<Self> {
        Self::load_with_room(FLOWS)
    }

    /// The same with so many entries in the forwarder's tables.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn load_with_room(entries: u32) -> Result<Self> {
        let mut loader = EbpfLoader::new();
        loader.map_max_entries("FORWARD_V4", entries).map_max_entries("FORWARD_V6", entries);
        let mut object = loader.load(OBJECT).context("load the benchmark's kernel object")?;
        for (name, program) in object.programs_mut() {
            match program {
                Program::Xdp(program) => program.load(),
                Program::SchedClassifier(program) => program.load(),
                _ => return Err(anyhow!("program {name} is of an unexpected kind")),
            }
            .with_context(|| format!("load program {name}"))?;
        }
        Ok(Self {
            frame: table(&object, "FRAME")?,
            flows: table(&object, "FLOW_LIST")?,
            ends: table(&object, "ENDS")?,
            next: table(&object, "NEXT")?,
            target: table(&object, "TARGET")?,
            devices: table(&object, "DEVICES")?,
            count: PerCpuTable::new(map_fd(&object, "COUNT")?)?,
            object,
        })
    }

    /// A program by the name of its function.
    ///
    /// # Errors
    /// There is none.
    pub fn fd(&self, name: &str) -> Result<BorrowedFd<'_>> {
        let program = self.object.program(name).with_context(|| format!("no program {name}"))?;
        Ok(program.fd()?.as_fd())
    }

    /// Which frames are made from now on.
    ///
    /// # Errors
    /// The kernel refuses, or there are more pairs of addresses than it has room for.
    pub fn set_frames(&self, frame: &Frame, flows: &[FiveTuple]) -> Result<()> {
        let (mut numbers, mut ends) = (HashMap::new(), Vec::new());
        let mut entries = Vec::with_capacity(flows.len());
        for (index, flow) in (0_u32..).zip(flows) {
            let number = *numbers.entry(flow.ends).or_insert_with(|| {
                let number = ends.len() as u32;
                ends.push((number, flow.ends));
                number
            });
            entries.push((index, Flow { ends: number, ports: flow.ports }));
        }
        ensure!(ends.len() <= PAIRS as usize, "{} pairs of addresses", ends.len());
        self.ends.set_all(&ends)?;
        self.flows.set_all(&entries)?;
        self.frame.set(&0, frame)?;
        Ok(self.next.set(&0, &0)?)
    }

    /// The template of the frames that are made.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn frame(&self) -> Result<Frame> {
        self.frame.get(&0)?.context("the frame")
    }

    /// Which program `drive` calls.
    ///
    /// # Errors
    /// The kernel refuses: with and without frags cannot be mixed.
    pub fn set_target(&self, program: BorrowedFd<'_>) -> Result<()> {
        Ok(self.target.set(&0, &(program.as_raw_fd() as u32))?)
    }

    /// Where `generate` sends.
    ///
    /// # Errors
    /// There is no such interface in the current network namespace.
    pub fn set_device(&self, ifindex: u32) -> Result<()> {
        Ok(self.devices.set(&0, &[ifindex, 0])?)
    }

    /// Frames that the sinks saw since the programs were loaded.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counted(&self) -> Result<u64> {
        Ok(self.count.get(0)?.iter().sum())
    }

    /// A map by name.
    ///
    /// # Errors
    /// There is none of that layout.
    pub fn table<K: Pod, V: Pod>(&self, name: &str) -> Result<Table<K, V>> {
        table(&self.object, name)
    }
}

fn table<K: Pod, V: Pod>(object: &Ebpf, name: &str) -> Result<Table<K, V>> {
    Ok(Table::new(map_fd(object, name)?)?)
}

fn map_fd(object: &Ebpf, name: &str) -> Result<std::os::fd::OwnedFd> {
    let map = object.map(name).with_context(|| format!("no map {name}"))?;
    let data = match map {
        Map::Array(data)
        | Map::DevMap(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::ProgramArray(data) => data,
        _ => return Err(anyhow!("map {name} is of an unexpected kind")),
    };
    data.fd().as_fd().try_clone_to_owned().with_context(|| format!("duplicate the descriptor of map {name}"))
}
