//! The `bristlecone-torture` command: the campaigns of the reliability suite, one by one or all of them, with their totals.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command for people")]

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use std::path::{Path, PathBuf};

use bristlecone_torture::totals::Totals;
use bristlecone_torture::workload::{ALL, Workload};
use bristlecone_torture::{corruption, crash, faults, fuzzing, kill, mutants, planted, schedules, soak};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A process that asks for more address space than this was made to by damaged bytes, and is ended.
const ADDRESS_SPACE: u64 = 16 << 30;

/// About as many as there are.
const FUZZ_TARGETS: u64 = 10;

/// No campaign takes more seeds than this from its first one on.
const MOST_SEEDS: u64 = 10_000;

/// Parts of the mutants of which the long mode takes one, another each minute.
const MUTANT_SHARDS: u64 = 16;

/// Power cuts, failing calls, kills, damage and soaking for Bristlecone.
///
/// Exit codes: 0 nothing was found, 1 something was, 2 wrong usage. Every failure is printed with the command that replays it.
#[derive(Debug, Parser)]
#[command(name = "bristlecone-torture", version)]
struct Cli {
    /// Print one JSON object a line instead of tables.
    #[arg(long, global = true)]
    json: bool,
    /// Threads that work side by side; kills take twice as many, for they mostly wait.
    #[arg(long, global = true, default_value_t = cores())]
    threads: usize,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Every campaign, in a few minutes.
    Quick,
    /// Every campaign, for as long as is asked for, from seeds that no run before had.
    Long {
        /// In minutes, for all of it.
        #[arg(long, default_value_t = 120)]
        minutes: u64,
    },
    /// Power cuts at every boundary of the workloads, and in the recovery from them.
    Crash(Chosen),
    /// A failing call at every index of the workloads, and disks that fill up.
    Errors {
        #[command(flatten)]
        chosen: Chosen,
        /// Every way to fail at each index, instead of one in turn.
        #[arg(long)]
        every_way: bool,
        /// One fault instead of all, as a failure names it; with --workload.
        #[arg(long, requires = "workload")]
        harm: Option<faults::Harm>,
        /// So many times.
        #[arg(long, default_value_t = 1)]
        repeat: u64,
    },
    /// Damage to every kind of file.
    Corruption {
        /// Stores to damage.
        #[arg(long, default_value_t = 1)]
        seeds: u64,
        /// The first of them.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Every so many bytes.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
        stride: u64,
        /// All eight bits of each byte, one after the other, instead of one of them.
        #[arg(long)]
        all_bits: bool,
    },
    /// `kill -9` of a process that commits.
    Kill {
        /// How often: 25 times each store, so a multiple of that is done.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
        kills: u64,
        /// The first store's seed.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Commits, readers and pruning on a real disk, with slopes of memory, descriptors and disk.
    Soak {
        /// For how long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// A snapshot is held all the time.
        #[arg(long)]
        stalled: bool,
    },
    /// Schedules of whole stores, by the tests that shuttle drives. Needs cargo and the repository.
    Schedules {
        /// Of each test.
        #[arg(long, default_value_t = 2_000)]
        schedules: u64,
        /// What they are drawn from.
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Plants defects into a copy of the sources, one at a time, and asks whether the test that should fails. Needs cargo, git, and the repository.
    Planted {
        /// Those whose name contains this.
        #[arg(long, default_value = "")]
        only: String,
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Every fuzz target for some seconds. Needs the nightly toolchain, cargo-fuzz, a C++ compiler, and the repository.
    Fuzz {
        /// For each target.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        /// These targets instead of all.
        #[arg(long)]
        target: Vec<String>,
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Changes of proofs and recovery as cargo-mutants plants them. Needs cargo, cargo-mutants, and the repository; hours for all of them.
    Mutants {
        /// A part of them, as in 0/12.
        #[arg(long)]
        shard: Option<mutants::Shard>,
        /// The root of the repository.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// The workloads, by name.
    Workloads,
    /// What `kill` kills.
    #[command(hide = true)]
    Writer { dir: PathBuf, seed: u64 },
    /// What `kill` asks.
    #[command(hide = true)]
    Verifier {
        dir: PathBuf,
        seed: u64,
        #[arg(long)]
        acknowledged: Option<u64>,
        #[arg(long, default_value_t = 0)]
        kept_from: u64,
    },
}

/// Which runs of which workloads.
#[derive(Debug, clap::Args)]
struct Chosen {
    /// One workload instead of all.
    #[arg(long, value_parser = workload)]
    workload: Option<&'static Workload>,
    /// Runs of each.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Every so many images or calls.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    stride: u64,
}

fn workload(name: &str) -> Result<&'static Workload, String> {
    let names = || ALL.iter().map(|one| one.name).collect::<Vec<_>>().join(", ");
    Workload::named(name).ok_or_else(|| format!("there are: {}", names()))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut session = Session { json: cli.json, threads: cli.threads, failures: 0, all: Vec::new() };
    match cli.command {
        Command::Writer { dir, seed } => return ended(kill::writer(&dir, seed)),
        Command::Verifier { dir, seed, acknowledged, kept_from } => {
            return ended(kill::verifier(&dir, seed, acknowledged, kept_from));
        }
        Command::Workloads => {
            // Whoever reads them may have seen enough.
            let mut out = std::io::stdout().lock();
            let _ = ALL
                .iter()
                .try_for_each(|one| writeln!(out, "{}: {:?}, {} steps", one.name, one.acts, one.steps));
            return ExitCode::SUCCESS;
        }
        Command::Quick => session.quick(),
        Command::Long { minutes } => session.long(Duration::from_secs(60 * minutes)),
        Command::Crash(chosen) => session.crash(&chosen, None),
        Command::Errors { chosen, every_way, harm, repeat } => {
            session.errors(&chosen, every_way, harm.map(|harm| (harm, repeat)), None);
        }
        Command::Corruption { seeds, seed, stride, all_bits } => {
            session.corruption(seeds, seed, stride, all_bits, None);
        }
        Command::Kill { kills, seed } => session.kill(kills, seed, None),
        Command::Soak { seconds, stalled } => session.soak(seconds, stalled),
        Command::Schedules { schedules, seed, root } => session.schedules(&root, schedules, seed, None),
        Command::Fuzz { seconds, target, root } => session.fuzz(&root, seconds, &target),
        Command::Mutants { shard, root } => session.mutants(&root, shard),
        Command::Planted { only, root } => session.planted(&root, &only, None),
    }
    session.end()
}

fn ended(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

/// The campaigns that were run, and how to tell of them.
struct Session {
    json: bool,
    threads: usize,
    failures: usize,
    all: Vec<(&'static str, Totals)>,
}

impl Session {
    fn crash(&mut self, chosen: &Chosen, deadline: Option<Instant>) {
        self.begin("crash");
        let plan = crash::Plan {
            seeds: chosen.seeds,
            first_seed: chosen.seed,
            images: 1,
            stride: chosen.stride as usize,
            again: 50,
            threads: self.threads,
            deadline,
        };
        let mut totals = crash::campaign(&plan, chosen.workload);
        let distinct = totals.images.len() as u64;
        totals.add("images that differ", distinct);
        self.tell("crash", totals);
    }

    fn errors(
        &mut self,
        chosen: &Chosen,
        every_way: bool,
        only: Option<(faults::Harm, u64)>,
        deadline: Option<Instant>,
    ) {
        self.begin("errors");
        let plan = faults::Plan {
            seeds: chosen.seeds,
            first_seed: chosen.seed,
            stride: chosen.stride as usize,
            every_way,
            only,
            threads: self.threads,
            deadline,
        };
        let totals = faults::campaign(&plan, chosen.workload);
        self.tell("errors", totals);
    }

    fn corruption(&mut self, seeds: u64, seed: u64, stride: u64, all_bits: bool, deadline: Option<Instant>) {
        self.begin("corruption");
        let before = limit_memory();
        let plan =
            corruption::Plan { seeds, first_seed: seed, stride, all_bits, threads: self.threads, deadline };
        let totals = corruption::campaign(&plan);
        unlimit_memory(before);
        self.tell("corruption", totals);
    }

    fn kill(&mut self, kills: u64, seed: u64, deadline: Option<Instant>) {
        self.begin("kill");
        let program = match std::env::current_exe() {
            Ok(program) => program,
            Err(error) => {
                eprintln!("this program's own path: {error}");
                self.failures += 1;
                return;
            }
        };
        // Much of a round is waiting for the moment of the kill.
        let threads = 2 * self.threads;
        let plan = kill::Plan { program, kills, of_one: 25, first_seed: seed, threads, deadline };
        let totals = kill::campaign(&plan);
        self.tell("kill", totals);
    }

    fn soak(&mut self, seconds: u64, stalled: bool) {
        let name = if stalled { "soak, a reader stalled" } else { "soak" };
        self.begin(name);
        let plan = soak::Plan { time: Duration::from_secs(seconds), keys: 20_000, seed: 1, stalled };
        let totals = soak::campaign(&plan);
        self.tell(name, totals);
    }

    fn planted(&mut self, root: &Path, only: &str, deadline: Option<Instant>) {
        self.begin("planted");
        if let Some(target) = self.target(root) {
            let totals = planted::campaign(root, &target, only, deadline);
            self.tell("planted", totals);
        }
    }

    fn schedules(&mut self, root: &Path, schedules: u64, seed: u64, deadline: Option<Instant>) {
        self.begin("schedules");
        if let Some(target) = self.target(root) {
            let plan = schedules::Plan { schedules, first_seed: seed, deadline };
            let totals = schedules::campaign(root, &target, &plan);
            self.tell("schedules", totals);
        }
    }

    fn fuzz(&mut self, root: &Path, seconds: u64, targets: &[String]) {
        self.begin("fuzz");
        let totals = fuzzing::campaign(root, seconds, targets);
        self.tell("fuzz", totals);
    }

    fn mutants(&mut self, root: &Path, shard: Option<mutants::Shard>) {
        self.begin("mutants");
        if let Some(target) = self.target(root) {
            let totals = mutants::campaign(root, &target.join("mutants"), shard);
            self.tell("mutants", totals);
        }
    }

    /// Where cargo builds what these campaigns run, and what they find is.
    fn target(&mut self, root: &Path) -> Option<PathBuf> {
        if !root.join("torture/Cargo.toml").exists() {
            eprintln!("{}: not the root of the repository; name it with --root", root.display());
            self.failures += 1;
            return None;
        }
        let target = root.join("target/planted");
        let absolute = std::path::absolute(&target);
        if let Err(error) = &absolute {
            eprintln!("{}: {error}", target.display());
            self.failures += 1;
        }
        absolute.ok()
    }

    fn quick(&mut self) {
        self.crash(&Chosen { workload: None, seeds: 4, seed: 0, stride: 1 }, None);
        self.errors(&Chosen { workload: None, seeds: 1, seed: 0, stride: 1 }, false, None, None);
        self.corruption(1, 0, 4, false, None);
        self.kill(100, 0, None);
        self.soak(45, false);
        self.soak(30, true);
    }

    /// The time is shared out; each campaign ends with the job that it is at.
    fn long(&mut self, time: Duration) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now = now.map_or(0, |since| since.as_secs());
        let seed = now * MOST_SEEDS;
        let until = |percent: u32| Some(Instant::now() + time * percent / 100);
        let many = |seed| Chosen { workload: None, seeds: MOST_SEEDS, seed, stride: 1 };
        self.crash(&many(seed), until(30));
        self.errors(&Chosen { seeds: 40, ..many(seed) }, true, None, until(6));
        self.corruption(20, seed, 1, true, until(5));
        self.kill(5_000, seed, until(10));
        self.schedules(Path::new("."), 2_000, seed, until(4));
        self.planted(Path::new("."), "", until(25));
        // The targets are built first, which takes some minutes more.
        self.fuzz(Path::new("."), (time * 5 / 100).as_secs() / FUZZ_TARGETS, &[]);
        // All of them take hours.
        self.mutants(
            Path::new("."),
            Some(mutants::Shard { part: now / 60 % MUTANT_SHARDS, of: MUTANT_SHARDS }),
        );
        self.soak((time * 3 / 100).as_secs().max(60), false);
        self.soak((time * 3 / 100).as_secs().max(60), true);
    }

    fn begin(&self, name: &str) {
        if !self.json {
            eprintln!("-- {name}");
        }
    }

    fn tell(&mut self, name: &'static str, totals: Totals) {
        self.failures += totals.failures.len();
        if self.json {
            let out = serde_json::json!({
                "campaign": name,
                "seconds": totals.time.as_secs_f64(),
                "counts": totals.counts,
                "failures": totals.failures,
            });
            println!("{out}");
        } else {
            println!("{name}: {:.0} s, {} failures", totals.time.as_secs_f64(), totals.failures.len());
            for (what, count) in &totals.counts {
                println!("  {count:>12}  {what}");
            }
        }
        self.all.push((name, totals));
    }

    fn end(&self) -> ExitCode {
        if !self.json && self.all.len() > 1 {
            println!("{}", self.table());
        }
        if self.failures == 0 {
            return ExitCode::SUCCESS;
        }
        eprintln!("{} failures; each was printed with what replays it:", self.failures);
        for (_, totals) in &self.all {
            totals.failures.iter().for_each(|failure| eprintln!("bristlecone-torture {failure}"));
        }
        ExitCode::FAILURE
    }

    fn table(&self) -> comfy_table::Table {
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["what", "count"]);
        let count = |campaign: &str, name: &str| -> u64 {
            self.all.iter().filter(|(of, _)| *of == campaign).map(|(_, totals)| totals.count(name)).sum()
        };
        for (what, campaign, name) in [
            ("crash images", "crash", "images"),
            ("crash images that differ", "crash", "images that differ"),
            ("recoveries cut in their turn", "crash", "recoveries cut in their turn"),
            ("injected faults", "errors", "faults"),
            ("full disks", "errors", "full disks"),
            ("damaged images", "corruption", "damaged images"),
            ("kills", "kill", "kills"),
            ("schedules", "schedules", "schedules"),
            ("fuzz executions", "fuzz", "executions"),
            ("mutants", "mutants", "mutants"),
            ("mutants that were caught", "mutants", "caught"),
            ("planted defects", "planted", "planted"),
            ("planted defects that were caught", "planted", "caught"),
            ("commits, soaking", "soak", "commits"),
            ("reads judged, soaking", "soak", "reads judged"),
        ] {
            if self.all.iter().any(|(of, _)| *of == campaign) {
                table.add_row([what.to_owned(), count(campaign, name).to_string()]);
            }
        }
        let failures: usize = self.all.iter().map(|(_, totals)| totals.failures.len()).sum();
        table.add_row(["failures".to_owned(), failures.to_string()]);
        table
    }
}

/// So that a length made up by damage ends the process instead of the machine's memory. The limit before.
fn limit_memory() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::As);
    let limit = Rlimit { current: Some(maximum.unwrap_or(ADDRESS_SPACE).min(ADDRESS_SPACE)), maximum };
    if let Err(error) = setrlimit(Resource::As, limit) {
        eprintln!("no limit of memory could be set ({error}): allocations are not bounded here");
    }
    current
}

fn unlimit_memory(before: Option<u64>) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::As).maximum;
    let _ = setrlimit(Resource::As, Rlimit { current: before, maximum });
}
