//! A stage for the roles as processes of their own: a real nats-server (or three), one store for all, a directory for each.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use spool_nats::streams::{DELIVERIES, Shape};
use spool_nats::testing::TestServer;
use spool_nats::{ConsumerName, Decision, Wait};
use spool_proto::event::Fact;
use spool_proto::id::Sha256;
use spool_proto::key::Key;
use spool_proto::subject::Lane;
use spool_proto::{AssetId, Event, Item, Role, Slot, TenantId};

use crate::spool::{Running, Said, get, say, spool};

/// How long anything may take that a test waits for. Wide, because a machine may run many tests at once.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Everything but the work with media.
pub(crate) const FRONT: [Role; 4] = [Role::Gateway, Role::Planner, Role::Publisher, Role::Projector];

/// What the processes share.
pub(crate) struct Stage {
    pub(crate) server: TestServer,
    pub(crate) dir: tempfile::TempDir,
}

/// `spool run`, ready.
pub(crate) struct Process {
    pub(crate) running: Running,
    /// Address of its listener.
    pub(crate) server: String,
}

impl Stage {
    /// A log of this shape, an empty store.
    pub(crate) async fn new(shape: Shape) -> Self {
        let server = TestServer::with(shape).await;
        Self { server, dir: tempfile::tempdir().expect("a directory") }
    }

    /// Starts these roles in a process of that name and waits until it is ready. A name has one directory, so that a process
    /// started again finds what the one before it left.
    pub(crate) fn start(&self, name: &str, roles: &[Role], settings: &[(&str, &str)]) -> Process {
        let running = Running::start(&mut self.run(name, roles, settings), self.dir.path());
        let server = running.ready()["server"].as_str().expect("an address").to_owned();
        Process { running, server }
    }

    fn run(&self, name: &str, roles: &[Role], settings: &[(&str, &str)]) -> Command {
        let mut command = spool(&["run", "--json", "--listen", "127.0.0.1:0"]);
        command.args(roles.iter().map(|role| role.name()));
        for role in roles {
            let target = self.server.target(role.name());
            command.env("SPOOL__NATS__URL", target.url);
            command.env(format!("SPOOL__NATS__PASSWORDS__{}", role.name().to_uppercase()), target.password);
        }
        command.env("SPOOL__DATA", self.dir.path().join(name)).env("SPOOL__STORE__DIR__PATH", self.store());
        command.envs(settings.iter().copied());
        command
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("objects")
    }

    /// Every fact, from the first.
    pub(crate) async fn facts(&self) -> Vec<Fact> {
        let log = self.server.log(Role::Projector).await;
        let last = log.last_sequence().await.expect("the last sequence");
        let mut replay = log.replay(1);
        let mut facts = Vec::new();
        while replay.position() < last {
            facts.extend(replay.next(500, Wait::Upto(Duration::from_secs(10))).await.expect("facts"));
        }
        facts
    }

    /// The slots of an asset that hold a fact.
    pub(crate) async fn slots(&self, asset: &AssetId) -> BTreeSet<String> {
        let of_it = |fact: &Fact| fact.asset == *asset;
        self.facts().await.iter().filter(|fact| of_it(fact)).filter_map(slot).collect()
    }

    /// Waits until this slot of the asset holds a fact.
    pub(crate) async fn until_slot(&self, asset: &AssetId, slot: &str) {
        until(slot, async || self.slots(asset).await.contains(slot).then_some(())).await;
    }

    /// Takes the one order that there is as often as it is handed out, so that the server gives it up: as the role does that
    /// must not run meanwhile.
    pub(crate) async fn use_up_deliveries(&self) {
        let log = self.server.log(Role::Transcoder).await;
        let lane = log.consumer(ConsumerName::Lane(Lane::First)).await.expect("a lane");
        for _ in 0..DELIVERIES {
            let not_now = async |_| Decision::Retry { after: Duration::ZERO, why: "not now".to_owned() };
            assert_eq!(lane.step(1, Wait::Upto(PATIENCE), not_now).await.expect("a step"), 1);
        }
    }

    /// Every whole object of the store with its digest.
    pub(crate) fn objects(&self) -> BTreeMap<String, Sha256> {
        let mut found = BTreeMap::new();
        let mut open = vec![self.store()];
        while let Some(directory) = open.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok) {
                let path = entry.path();
                if path.is_dir() {
                    open.push(path);
                    continue;
                }
                let key = path.strip_prefix(self.store()).expect("below the store").to_string_lossy().into_owned();
                // What a writer has not finished has another name, and may go while it is read.
                if key.parse::<Key>().is_ok() {
                    found.insert(key, Sha256::of(&std::fs::read(&path).expect("an object")));
                }
            }
        }
        found
    }
}

/// A source that nobody can read for now: whoever opens it waits.
pub(crate) struct Withheld {
    path: PathBuf,
    kept: PathBuf,
}

impl Stage {
    /// Puts a pipe that nobody writes to in the place of the asset's source, of one piece: a worker gets the order, starts its
    /// child and comes no further, however fast or slow the machine is.
    pub(crate) fn withhold_source(&self, asset: &AssetId) -> Withheld {
        let of_it = |key: &String| key.starts_with("sources/") && key.contains(asset.as_str());
        let pieces: Vec<String> = self.objects().into_keys().filter(of_it).collect();
        let [piece] = &pieces[..] else { panic!("one piece: {pieces:?}") };
        let (path, kept) = (self.store().join(piece), self.dir.path().join(format!("{asset}.kept")));
        std::fs::rename(&path, &kept).expect("put aside");
        let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo of coreutils");
        assert!(made.success());
        Withheld { path, kept }
    }

    /// Waits until this order is queued.
    pub(crate) async fn until_queued(&self, asset: &AssetId, item: &str) {
        let log = self.server.log(Role::Planner).await;
        let (tenant, item) = (TenantId::default_tenant(), item.parse::<Item>().expect("an item"));
        let queued = async || log.queued(&tenant, asset, &item).await.expect("asked").map(drop);
        until("an order", queued).await;
    }
}

impl Withheld {
    /// From now on it can be read.
    pub(crate) fn give_back(self) {
        std::fs::rename(&self.kept, &self.path).expect("put back");
    }
}

fn slot(fact: &Fact) -> Option<String> {
    fact.slot.as_ref().ok().map(Slot::to_string)
}

/// An object that a fact names as accepted: rendition and chunk, key, digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Accepted {
    pub(crate) place: String,
    pub(crate) key: String,
    pub(crate) sha256: String,
}

/// The objects that these facts name as accepted.
pub(crate) fn accepted(facts: &[Fact]) -> Vec<Accepted> {
    let mut all = Vec::new();
    for fact in facts {
        let at = slot(fact).unwrap_or_default();
        let receipts = match fact.event() {
            Some(Event::VideoStored(stored)) => stored.receipts.iter().collect(),
            Some(Event::AudioStored(stored)) => vec![&stored.receipt],
            _ => Vec::new(),
        };
        all.extend(receipts.into_iter().map(|receipt| Accepted {
            place: format!("{at} {}", receipt.rendition),
            key: receipt.key.clone(),
            sha256: receipt.sha256.to_string(),
        }));
        if let Some(Event::StillStored(still)) = fact.event() {
            let (key, sha256) = (still.receipt.key.clone(), still.receipt.sha256.to_string());
            all.push(Accepted { place: at, key, sha256 });
        }
    }
    all.sort();
    all
}

impl Process {
    /// A command of `spool` to this process, its output as JSON.
    pub(crate) fn ask(&self, args: &[&str]) -> Vec<Value> {
        let said = self.say(args);
        assert_eq!(said.exit, Some(0), "{args:?}: {}{}\n{}", said.stdout, said.stderr, self.running.log());
        said.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// A command of `spool` to this process.
    pub(crate) fn say(&self, args: &[&str]) -> Said {
        let mut command = spool(args);
        command.args(["--json", "--server", &self.server]);
        say(&mut command)
    }

    /// What the view says of itself.
    pub(crate) fn view(&self) -> Value {
        let (status, body) = get(&self.server, "/v1/view");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// The same, as people read it.
    pub(crate) fn say_text(&self, args: &[&str]) -> String {
        let said = say(spool(args).args(["--server", &self.server]));
        assert_eq!(said.exit, Some(0), "{args:?}: {}", said.stderr);
        said.stdout
    }

    /// Pushes a file as a new asset and does not wait for it.
    pub(crate) fn push(&self, file: &Path) -> AssetId {
        let lines = self.ask(&["push", "--fresh", &file.to_string_lossy()]);
        let last = lines.last().expect("a line");
        last["id"].as_str().expect("an id").parse().expect("an id")
    }

    /// Waits until the asset is in that state.
    pub(crate) async fn until_status(&self, asset: &AssetId, status: &str) -> Value {
        let started = Instant::now();
        loop {
            // The view may not have met it yet.
            let shown = self.say(&["show", asset.as_str()]).stdout;
            let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
            if shown["status"] == status {
                return shown;
            }
            assert!(started.elapsed() < PATIENCE, "not {status} within {PATIENCE:?}: {shown}\n{}", self.running.log());
            tokio::time::sleep(LOOK_EVERY * 20).await;
        }
    }

    /// Stops it and its media children where they stand, as a machine would that is suspended. Hands back the children.
    pub(crate) fn pause(&self) -> Vec<u32> {
        self.running.signal(Signal::STOP);
        let children = self.media_children();
        children.iter().for_each(|child| signal(*child, Signal::STOP));
        children
    }

    /// Lets it go on.
    pub(crate) fn wake(&self, children: &[u32]) {
        children.iter().for_each(|child| signal(*child, Signal::CONT));
        self.running.signal(Signal::CONT);
    }

    /// Its media children: of `spool up` the nats-server is none.
    pub(crate) fn media_children(&self) -> Vec<u32> {
        let serves = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"serve")
        };
        self.running.children().into_iter().filter(serves).collect()
    }

    /// Waits until a media child of it runs, and looks often: such a child may live for a tenth of a second.
    pub(crate) async fn until_child(&self) -> Vec<u32> {
        until("a media child", async || Some(self.media_children()).filter(|children| !children.is_empty())).await
    }

    /// Waits until its log holds these words that often.
    pub(crate) async fn until_said(&self, words: &str, times: usize) {
        let holds = || self.running.log().matches(words).count() >= times;
        let started = Instant::now();
        while !holds() {
            assert!(started.elapsed() < PATIENCE, "never said {words:?}:\n{}", self.running.log());
            tokio::time::sleep(LOOK_EVERY * 10).await;
        }
    }
}

/// Sends a signal to a process that may have gone meanwhile.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = pid.try_into().ok().and_then(Pid::from_raw).expect("a process id");
    let _it_may_have_gone = kill_process(pid, signal);
}

/// Polls until there is something.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// A clip that ffmpeg makes in `dir`.
pub(crate) fn clip(dir: &Path, name: &str, args: &str) -> PathBuf {
    let path = dir.join(name);
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-nostdin", "-y"]).args(args.split_whitespace()).arg(&path);
    let said = say(&mut command);
    assert_eq!(said.exit, Some(0), "ffmpeg {args}: {}", said.stderr);
    path
}

/// Seconds of a small moving picture with a tone.
pub(crate) fn picture_and_sound(dir: &Path, name: &str, seconds: u32) -> PathBuf {
    let inputs =
        format!("-f lavfi -i testsrc2=s=320x180:r=25:d={seconds} -f lavfi -i sine=f=440:r=48000:d={seconds} -shortest");
    clip(dir, name, &format!("{inputs} -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 50 -c:a aac"))
}
