//! Which topology is in force: the file's, or the last good one where that is bad.

use super::Agent;
use crate::{
    liveness::Questions,
    text::Text,
    topology::{self, Compiled, Version},
    watch::FileWatch,
};
use std::sync::Arc;
use vpc_topology::Limits;

impl Agent {
    /// Reads the file and has it compiled if it is other than before.
    pub(super) fn read(&mut self, watch: &mut FileWatch) {
        match watch.read_if_changed() {
            Ok(None) => {}
            Ok(Some(text)) if self.compiling.0.is_some() => self.waiting = Some(text),
            Ok(Some(text)) => self.compile(text),
            Err(error) => self.reject(format!("read {}: {error}", self.topology.file)),
        }
    }

    pub(super) fn compile(&mut self, text: Arc<Text>) {
        let (name, node) = (self.topology.file.clone(), self.arguments.node.clone());
        let (present, limits) = (self.reconciler.present(), self.limits());
        let loader = Arc::clone(&self.loader);
        let task = move || {
            let compiled = topology::compile_next(&loader, &text, &name, &node, &present, &limits)?;
            Ok(Version { text, compiled })
        };
        self.compiling.0 = Some(tokio::task::spawn_blocking(task));
    }

    pub(super) fn accept(&mut self, version: Result<Version, String>) {
        match version {
            Ok(Version { text, compiled }) => {
                self.put_into_force(compiled);
                self.topology.state = "file".to_owned();
                self.topology.errors.clear();
                self.text = Some(Arc::clone(&text));
                self.unkept = Some(text);
            }
            Err(problems) => self.reject(problems),
        }
        if let Some(text) = self.waiting.take() {
            self.compile(text);
        } else {
            self.compile_anew();
        }
    }

    /// What a topology must fit into.
    pub(super) fn limits(&self) -> Limits {
        Limits { sessions: self.sizes.sessions, ..self.arguments.sizes.into() }
    }

    /// The topology in force is compiled again for another session table, of which ports have their shares, and where other
    /// instances can be next hops.
    pub(super) fn compile_anew(&mut self) {
        let Some(compiled) = &self.in_force else { return };
        if compiled.sessions == self.sizes.sessions && compiled.gone == self.reconciler.gone() {
            return;
        }
        if self.compiling.0.is_some() {
            // What is on its way comes here as well.
        } else if self.topology.state == "file"
            && let Some(text) = &self.text
        {
            self.compile(Arc::clone(text));
        } else {
            self.fall_back();
        }
    }

    fn put_into_force(&mut self, compiled: Compiled) {
        self.reconciler.desire(compiled.desired.clone());
        let probes = compiled.desired.outside.probes.clone();
        self.liveness.ask(Questions { source: compiled.desired.node.vtep, probes });
        self.topology.generation += 1;
        tracing::info!(
            ports = compiled.desired.ports.len(),
            generation = self.topology.generation,
            "topology accepted"
        );
        self.in_force = Some(compiled);
    }

    /// The file is bad: what is in force stays.
    fn reject(&mut self, problems: String) {
        if self.topology.errors != problems {
            tracing::error!(file = %self.topology.file, "the topology is rejected:\n{problems}");
            self.topology.errors = problems;
        }
        if self.topology.state == "file" {
            self.topology.state = "last_good".to_owned();
        }
        self.say();
    }

    /// The file is bad at the start: the last good content, if there is one, is in force on.
    pub(super) fn fall_back(&mut self) {
        let Some(text) = topology::kept(&self.arguments.run_dir) else { return };
        let name = topology::last_good_path(&self.arguments.run_dir).display().to_string();
        let (present, limits) = (self.reconciler.present(), self.limits());
        match topology::compile(&text, &name, &self.arguments.node, &present, &limits) {
            Ok(compiled) => {
                self.put_into_force(compiled);
                self.topology.state = "last_good".to_owned();
            }
            Err(problems) => tracing::error!("the last good topology is bad as well:\n{problems}"),
        }
    }

    /// Makes the topology in force the last good one.
    pub(super) fn keep(&mut self) {
        if let Some(text) = self.unkept.take()
            && let Err(error) = text.keep_as(&topology::last_good_path(&self.arguments.run_dir))
        {
            tracing::warn!(%error, "keep the topology as the last good one");
        }
    }
}
