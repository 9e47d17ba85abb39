//! The agent's life: start, rounds on every change, stop.

mod force;

use crate::{
    announce::{Announcer, Spoken, SpokenFrom},
    answer::Answers,
    args::Run,
    attach::TcWay,
    bpffs,
    control::{
        Answer, Request,
        report::TopologyStatus,
        server::{self, Call},
    },
    datapath::Datapath,
    growth::{self, Growth},
    instances,
    liveness::{Healths, Liveness},
    lock,
    machine::{Depth, Observer},
    memory,
    netlink::{events::Events, neighbours},
    notify::{ServiceManager, status_line},
    reconcile::{Outcome, Reconciler, chain},
    sweeper,
    text::Text,
    topology::{self, Compiled, Compiling},
    watch::FileWatch,
};
use anyhow::Context;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};
use vpc_bpf::{Loaded, Sizes};
use vpc_topology::{Limits, Loader};

/// Changes of the machine come in bursts.
const BURST: Duration = Duration::from_millis(5);
/// The longest that a burst may put a round off.
const LONGEST_BURST: Duration = Duration::from_millis(50);
/// How long readiness waits for the next hops of other nodes.
const RESOLVE_LIMIT: Duration = Duration::from_secs(1);
/// Problems that are logged one by one when many come at once.
const LOGGED_PROBLEMS: usize = 20;
/// Neighbours that are confirmed a tick, over all next hops.
const CONFIRMATIONS: usize = 50;

/// Runs until SIGTERM, SIGINT or a request to stop.
///
/// # Errors
/// What makes it impossible to start. What goes wrong later is logged and shown in the status.
pub async fn run(arguments: Run) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.run_dir)
        .with_context(|| format!("make run directory {}", arguments.run_dir.display()))?;
    let _lock = lock::take(&arguments.run_dir)?;
    bpffs::ensure(&arguments.bpffs)?;
    let pins = bpffs::directory(&arguments.bpffs);
    std::fs::create_dir_all(&pins).with_context(|| format!("make {}", pins.display()))?;
    let _pins_lock = lock::take_pins(&pins)?;
    let (connection, handle, _) = rtnetlink::new_connection().context("open a netlink socket")?;
    let mut connection = tokio::spawn(connection);
    let observer = Observer::new(handle);
    let way = TcWay::choose(arguments.attach)?;
    let mut events =
        Events::subscribe(observer.feature_changes(), &way).context("subscribe to the kernel's messages")?;
    let mut watch = FileWatch::new(&arguments.topology, &arguments.run_dir)?;
    let mut sizes: Sizes = arguments.sizes.into();
    sizes.sessions = growth::at_start(&arguments.bpffs, arguments.sizes.sessions_at_start, sizes.sessions);
    // A large topology is read while the kernel verifies programs and tells what the maps hold.
    let loader = Arc::default();
    let limits = Limits { sessions: sizes.sessions, ..arguments.sizes.into() };
    let (file, first_loader) = (arguments.topology.display().to_string(), Arc::clone(&loader));
    let reading = tokio::task::spawn_blocking(move || {
        let first = watch.read_if_changed().unwrap_or_default();
        if let Some(text) = &first {
            topology::prepare(&first_loader, text, &file, limits);
        }
        (watch, first)
    });
    let datapath = Datapath::load(&arguments.bpffs, sizes, way)?;
    memory::give_back();
    let sweeper = sweeper::spawn(&datapath.tables).context("start the session sweeper")?;
    let reconciler = Reconciler::new(datapath, observer, sweeper.clone()).context("read the maps")?;
    let (mut watch, first) = reading.await.context("read the topology")?;
    let (calls_in, mut calls) = mpsc::channel(64);
    server::listen(&arguments.run_dir, calls_in).context("listen on the control socket")?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);

    let liveness = Liveness::spawn().context("start to ask gateways whether they are alive")?;
    let mut agent = Agent::new(arguments, sizes, reconciler, liveness, Growth::new(sweeper));
    (agent.loader, agent.waiting) = (loader, first);
    agent.start(&mut watch).await;
    loop {
        let depth = tokio::select! {
            event = events.next() => {
                let mut depth = event.context("read the kernel's messages")?;
                let burst = Instant::now();
                while burst.elapsed() < LONGEST_BURST
                    && let Ok(more) = tokio::time::timeout(BURST, events.next()).await
                {
                    depth = depth.max(more.context("read the kernel's messages")?);
                }
                depth
            }
            () = watch.quiet() => {
                agent.read(&mut watch);
                continue;
            }
            compiled = agent.compiling.finished() => {
                agent.accept(compiled);
                Depth::Topology
            }
            loaded = agent.growth.finished() => {
                agent.grow(loaded);
                Depth::Routes
            }
            healths = agent.liveness.changed() => {
                agent.hear(healths);
                Depth::Neighbours
            }
            Some(call) = calls.recv() => {
                if agent.answer(call) {
                    // The answer goes out first.
                    tokio::time::sleep(BURST).await;
                    break;
                }
                continue;
            }
            _ = tick.tick() => {
                if watch.looks_changed() {
                    agent.read(&mut watch);
                }
                match agent.tick().await {
                    Some(depth) => depth,
                    None => continue,
                }
            }
            // A new agent starts with a new connection.
            _ = &mut connection => anyhow::bail!("the netlink connection broke"),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        };
        agent.round(depth).await;
    }
    tracing::info!("stopping; packets go on");
    agent.manager.stopping();
    Ok(())
}

struct Agent {
    arguments: Run,
    /// Of the maps as they are now.
    sizes: Sizes,
    growth: Growth,
    reconciler: Reconciler,
    liveness: Liveness,
    announcer: Announcer,
    /// What the announcer was told last is made of this.
    spoken_from: Option<SpokenFrom>,
    compiling: Compiling,
    /// What this node needs by the topology in force.
    in_force: Option<Compiled>,
    /// A text that came while another one was compiled.
    waiting: Option<Arc<Text>>,
    /// The text of the file that was accepted last.
    text: Option<Arc<Text>>,
    /// The same, if it is not kept as the last good one yet.
    unkept: Option<Arc<Text>>,
    loader: Arc<Mutex<Loader<Text>>>,
    topology: TopologyStatus,
    outcome: Outcome,
    /// Why the last round failed.
    failure: Option<String>,
    told: BTreeSet<String>,
    /// The status line that the service manager has.
    said: String,
    manager: ServiceManager,
    confirmed: usize,
    ticks: u64,
    started: Instant,
    ready: bool,
}

impl Agent {
    fn new(arguments: Run, sizes: Sizes, reconciler: Reconciler, liveness: Liveness, growth: Growth) -> Self {
        let file = arguments.topology.display().to_string();
        Self {
            arguments,
            sizes,
            growth,
            announcer: Announcer::new(Spoken::before(reconciler.actual())),
            spoken_from: None,
            reconciler,
            liveness,
            compiling: Compiling::default(),
            in_force: None,
            waiting: None,
            text: None,
            unkept: None,
            loader: Arc::default(),
            topology: TopologyStatus { file, state: "none".to_owned(), ..TopologyStatus::default() },
            outcome: Outcome::default(),
            failure: None,
            told: BTreeSet::new(),
            said: String::new(),
            manager: ServiceManager::from_environment(),
            confirmed: 0,
            ticks: 0,
            started: Instant::now(),
            ready: false,
        }
    }

    /// Brings the file, or the last good content, into force before anyone is told that the agent is ready.
    async fn start(&mut self, watch: &mut FileWatch) {
        match self.waiting.take() {
            Some(text) => self.compile(text),
            // It could not be read: here that is told.
            None => self.read(watch),
        }
        if self.compiling.0.is_some() {
            let compiled = self.compiling.finished().await;
            self.accept(compiled);
        }
        if self.reconciler.desired().is_none() {
            self.fall_back();
        }
        self.round(Depth::Routes).await;
        let start = Instant::now();
        while !self.outcome.unresolved.is_empty() && start.elapsed() < RESOLVE_LIMIT {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.round(Depth::Neighbours).await;
        }
        self.ready = true;
        tracing::info!(node = %self.arguments.node, topology = %self.topology.state, "ready");
        self.said = self.state_line();
        self.manager.ready(&self.said);
        self.keep();
    }

    fn state_line(&self) -> String {
        let ports = self.reconciler.desired().map_or(0, |desired| desired.ports.len());
        status_line(&self.topology, ports, self.problems().len())
    }

    /// Everything that is wrong now.
    fn problems(&self) -> Vec<String> {
        let trouble = self.liveness.tallies().trouble;
        let own = self.failure.as_ref().into_iter().chain(self.growth.problem());
        let of_instances = self.in_force.iter().flat_map(|force| instances::problems(&force.desired, &force.gone));
        own.chain(&self.outcome.problems).chain(&trouble).cloned().chain(of_instances).collect()
    }

    /// Goes on with larger session tables.
    fn grow(&mut self, loaded: Result<Loaded, String>) {
        match loaded.and_then(|loaded| growth::adopt(loaded, &mut self.reconciler)) {
            Ok(sessions) => {
                self.sizes.sessions = sessions;
                self.compile_anew();
            }
            Err(error) => self.growth.has_failed(&error),
        }
    }

    /// Gateways come and go: the maps follow before anything else is looked at.
    fn hear(&mut self, healths: Healths) {
        if let Err(error) = self.reconciler.hear(healths) {
            self.failure = Some(chain(&error));
        }
        self.compile_anew();
        self.speak();
    }

    /// Announces outside for what this gateway newly speaks.
    fn speak(&mut self) {
        let Some(desired) = self.reconciler.desired() else { return };
        let image = self.reconciler.actual();
        let (outside, shared) = (image.outside.clone(), image.shared.clone());
        let from = SpokenFrom { desired: Arc::clone(desired), outside, shared };
        if self.spoken_from.as_ref() != Some(&from) {
            self.announcer.speak(Spoken::now(&from.desired, image));
            self.spoken_from = Some(from);
        }
    }

    async fn round(&mut self, depth: Depth) {
        let start = Instant::now();
        match self.reconciler.round(depth).await {
            Ok(outcome) => {
                if outcome.writes > 0 {
                    let milliseconds = start.elapsed().as_secs_f64() * 1e3;
                    tracing::info!(writes = outcome.writes, milliseconds, "applied");
                }
                let new: Vec<_> = outcome.unresolved.difference(&self.outcome.unresolved).copied().collect();
                self.outcome = outcome;
                self.failure = None;
                for key in new {
                    if let Err(error) = neighbours::resolve(self.reconciler.observer.handle(), key).await {
                        tracing::debug!(error = %chain(&error), "resolve a next hop");
                    }
                }
            }
            Err(error) => self.failure = Some(chain(&error)),
        }
        self.compile_anew();
        self.speak();
        if self.ready {
            self.keep();
        }
        self.tell();
    }

    /// Logs problems as they come and go.
    fn tell(&mut self) {
        let now: BTreeSet<String> = self.problems().into_iter().collect();
        let (new, gone) = (now.difference(&self.told), self.told.difference(&now));
        for problem in new.clone().take(LOGGED_PROBLEMS) {
            tracing::warn!("{problem}");
        }
        for problem in gone.clone().take(LOGGED_PROBLEMS) {
            tracing::info!("no longer: {problem}");
        }
        let (new, gone) = (new.skip(LOGGED_PROBLEMS).count(), gone.skip(LOGGED_PROBLEMS).count());
        if new + gone > 0 {
            tracing::warn!(new, gone, "and more problems: see vpcctl status");
        }
        self.told = now;
        self.say();
    }

    /// Tells the service manager if the status line is another one.
    fn say(&mut self) {
        let status = self.state_line();
        if self.ready && status != self.said {
            self.manager.status(&status);
            self.said = status;
        }
    }

    /// Keeps next hops resolved. Says which round is due although nothing was announced.
    async fn tick(&mut self) -> Option<Depth> {
        self.ticks += 1;
        self.manager.alive();
        self.growth.look(&self.reconciler, &self.arguments, self.sizes);
        let handle = self.reconciler.observer.handle();
        for key in self.outcome.unresolved.iter().take(CONFIRMATIONS) {
            if let Err(error) = neighbours::resolve(handle, *key).await {
                tracing::debug!(error = %chain(&error), "resolve a next hop");
            }
        }
        // A next hop that died without its link going down is noticed by asking it, every other second where there
        // are few.
        if self.ticks.is_multiple_of(2) && !self.outcome.learned.is_empty() {
            let count = self.outcome.learned.len();
            for key in self.outcome.learned.iter().cycle().skip(self.confirmed % count).take(CONFIRMATIONS.min(count)) {
                if let Err(error) = neighbours::confirm(handle, *key).await {
                    tracing::debug!(error = %chain(&error), "confirm a next hop");
                }
            }
            self.confirmed = (self.confirmed + CONFIRMATIONS) % count.max(1);
        }
        // Whatever was not announced is found within ten seconds; a failed round is repeated at once.
        if self.failure.is_some() || self.ticks.is_multiple_of(10) {
            Some(Depth::Routes)
        } else if self.outcome.problems.is_empty() {
            None
        } else {
            Some(Depth::Topology)
        }
    }

    /// Answers a request. Says whether the agent is to end.
    fn answer(&mut self, call: Call) -> bool {
        let Call { request, answer } = call;
        // A port's state moves between two rounds, so that its slot is the same from the first look to the last write.
        let moved = match &request {
            Request::ExportPort { port } => Some(Answer::of(self.reconciler.give(port).map_err(|error| chain(&error)))),
            Request::ImportPort { state } => {
                Some(Answer::of(self.reconciler.take(state).map_err(|error| chain(&error))))
            }
            _ => None,
        };
        if let Some(moved) = moved {
            // Whoever asked may be gone.
            let _gone = answer.send(moved);
            return false;
        }
        let answers = Answers {
            reconciler: &self.reconciler,
            outcome: &self.outcome,
            topology: &self.topology,
            problems: self.problems(),
            node: &self.arguments.node,
            pins: bpffs::directory(&self.arguments.bpffs),
            started: self.started,
            limits: self.limits(),
            tallies: self.liveness.tallies(),
        };
        let stop = request == Request::Stop;
        match answers.later(&request) {
            // Long lists are made beside the loop.
            Some(work) => {
                tokio::task::spawn_blocking(move || answer.send(work()));
            }
            None => {
                // Whoever asked may be gone.
                let _gone = answer.send(answers.now(&request));
            }
        }
        stop
    }
}
