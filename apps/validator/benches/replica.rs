//! What agreeing costs: one validator on a disk beside a bare write and sync of the same bytes, and
//! several in one process, over loopback, with their data in memory. `cargo xtask bench replica` runs it;
//! it prints one JSON document.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::{
    fs::{self, File},
    io::Write,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use keys::SecretKey;
use serde_json::{Value, json};
use types::{
    Nonce, TimeMs, Watt,
    genesis::{Genesis, GenesisAccount},
    sign::{Sign, Signed},
    tx::{Action, SignedTx, Tx},
};
use validator::{
    ConsensusKey, Peer, Timeouts, Validator, ValidatorConfig, ValidatorHandle,
    genesis::{LOCAL_STAKE, LocalNetwork, LocalValidator, local},
};

/// Accounts that send, each one transaction at a time.
const SENDERS: u32 = 3_000;
/// How long a load lasts, and the part of its beginning that does not count.
const LOAD: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(5);
/// How long silence is watched.
const IDLE: Duration = Duration::from_secs(20);
/// Blocks of one transaction whose latency is measured.
const SINGLES: u64 = 200;
/// Blocks of one transaction whose syncs are counted.
const TRACED: u64 = 50;
const TICKS_PER_SECOND: f64 = 100.0;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    // Cargo adds an option of its own.
    let disk = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let disk = disk.map_or_else(std::env::temp_dir, PathBuf::from);
    let memory = Path::new("/dev/shm");
    let memory = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    eprintln!("one validator on {} …", disk.display());
    let one = solo(&disk).await?;
    let mut several = Vec::new();
    for count in [4u8, 7, 10] {
        eprintln!("{count} validators in memory …");
        several.push(network(count, &memory).await?);
    }
    println!("{}", json!({ "one": one, "several": several }));
    Ok(())
}

fn key(kind: u8, number: u32) -> SecretKey {
    let mut seed = [kind; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(seed)
}

const CONSENSUS: u8 = 1;
const NODE: u8 = 2;
const SENDER: u8 = 3;
const OPERATOR: u8 = 4;

fn genesis(validators: u8) -> anyhow::Result<Genesis> {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed()?.as_millis();
    let accounts = (0..SENDERS).map(|number| GenesisAccount {
        address: key(SENDER, number).address(),
        balance: Watt::whole(1_000),
    });
    let validators = (0..validators).map(|number| LocalValidator {
        moniker: format!("v{number}"),
        consensus_key: key(CONSENSUS, number.into()).public_key(),
        operator: key(OPERATOR, number.into()).address(),
        stake: LOCAL_STAKE,
    });
    Ok(local(LocalNetwork {
        time: TimeMs(u64::try_from(now)?),
        validators: validators.collect(),
        holder: key(9, 0).address(),
        gateway: key(9, 1).address(),
        accounts: accounts.collect(),
    })?)
}

/// A transfer of about 200 bytes.
fn transfer(genesis: &Genesis, sender: &SecretKey, nonce: u64) -> Vec<u8> {
    let tx = Tx {
        chain_id: genesis.chain_id.clone(),
        nonce: Nonce(nonce),
        fee_max: Watt::whole(1),
        tip: Watt::ZERO,
        valid_until: None,
        action: Action::Transfer { to: key(9, 2).address(), amount: Watt(1) },
    };
    SignedTx(Signed::new(tx, &genesis.chain_id, sender)).encode()
}

fn free_addr() -> anyhow::Result<(SocketAddr, (TcpListener, UdpSocket))> {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let addr = tcp.local_addr()?;
        if let Ok(udp) = UdpSocket::bind(addr) {
            return Ok((addr, (tcp, udp)));
        }
    }
}

async fn start(folder: &Path, genesis: &Genesis) -> anyhow::Result<Vec<ValidatorHandle>> {
    let count = genesis.validators.len();
    let (addrs, held): (Vec<_>, Vec<_>) =
        (0..count).map(|_| free_addr()).collect::<anyhow::Result<Vec<_>>>()?.into_iter().unzip();
    drop(held);
    let mut handles = Vec::new();
    for (number, addr) in (0u32..).zip(&addrs) {
        let peer = |(other, addr): (u32, &SocketAddr)| Peer {
            node_key: key(NODE, other).public_key(),
            addr: *addr,
        };
        let others = (0u32..).zip(&addrs).filter(|(other, _)| *other != number);
        let home = folder.join(number.to_string());
        fs::create_dir_all(&home)?;
        let mark = home.join("consensus.mark");
        let config = ValidatorConfig {
            home,
            genesis: genesis.clone(),
            consensus: Some(ConsensusKey { key: key(CONSENSUS, number), mark }),
            node_key: key(NODE, number),
            listen: "127.0.0.1:0".parse()?,
            peer_listen: if count == 1 { "127.0.0.1:0".parse()? } else { *addr },
            peers: others.map(peer).collect(),
            peers_only: false,
            timeouts: Timeouts::STANDARD,
            heartbeat: None,
            halt_at: None,
            blocks_kept: None,
            snapshot_interval: validator::SNAPSHOT_INTERVAL,
            state_sync: None,
            operator: None,
            vote_price: None,
        };
        handles.push(Validator::start(config).await?);
    }
    Ok(handles)
}

async fn stop(handles: Vec<ValidatorHandle>) -> anyhow::Result<()> {
    for handle in handles {
        handle.shutdown().await?;
    }
    Ok(())
}

/// User and system time of this process so far, in seconds.
fn cpu() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').context("/proc/self/stat has no name")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |place: usize| -> anyhow::Result<f64> {
        Ok(fields.get(place).context("/proc/self/stat is short")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND)
}

fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = ((sorted.len() as f64 - 1.0) * part).round() as usize;
    sorted.get(place).copied().unwrap_or(f64::NAN)
}

fn milliseconds(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    (quantile(&times, 0.5), quantile(&times, 0.99))
}

/// Latency of one transaction at a time beside a write and sync of as many bytes, in turn; then load.
async fn solo(disk: &Path) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir_in(disk)?;
    let genesis = genesis(1)?;
    let handles = start(folder.path(), &genesis).await?;
    let [node] = handles.as_slice() else { anyhow::bail!("one validator was started") };
    let sender = key(SENDER, 0);
    let bytes = vec![7u8; 1_024];
    let (mut committed, mut synced) = (Vec::new(), Vec::new());
    for nonce in 0..SINGLES {
        let tx = transfer(&genesis, &sender, nonce);
        let began = Instant::now();
        node.submit(tx).await?;
        committed.push(began.elapsed());
        let began = Instant::now();
        let mut file = File::create(folder.path().join("bare"))?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        synced.push(began.elapsed());
    }
    let ((commit_p50, commit_p99), (sync_p50, sync_p99)) =
        (milliseconds(committed), milliseconds(synced));
    let fsyncs = fsyncs(folder.path(), async {
        for nonce in SINGLES..SINGLES + TRACED {
            node.submit(transfer(&genesis, &sender, nonce)).await?;
        }
        Ok(())
    });
    let fsyncs_per_block = fsyncs.await?.map(|count| count as f64 / TRACED as f64);
    let load = load(&handles, &genesis, 1).await?;
    stop(handles).await?;
    Ok(json!({
        "commit_ms_p50": commit_p50, "commit_ms_p99": commit_p99,
        "write_sync_ms_p50": sync_p50, "write_sync_ms_p99": sync_p99,
        "ratio_p50": commit_p50 / sync_p50, "fsyncs_per_block": fsyncs_per_block, "load": load,
    }))
}

/// How often this process asks the disk to sync while `work` is done, as `strace` sees it. `None`: there
/// is no `strace`, or it may not look.
async fn fsyncs(
    folder: &Path,
    work: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<Option<usize>> {
    let trace = folder.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-e", "trace=fsync,fdatasync,sync_file_range,msync", "-o"]);
    command.arg(&trace).args(["-p", &std::process::id().to_string()]).stderr(Stdio::null());
    let Ok(mut tracer) = command.spawn() else {
        eprintln!("strace is not installed: syncs are not counted");
        work.await?;
        return Ok(None);
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    work.await?;
    if tracer.try_wait()?.is_some() {
        eprintln!("strace may not look at this process: syncs are not counted");
        return Ok(None);
    }
    // It lets go of what it traces when it is asked to end.
    Command::new("kill").arg(tracer.id().to_string()).status()?;
    tracer.wait()?;
    let trace = fs::read_to_string(&trace)?;
    let calls = ["fsync(", "fdatasync(", "sync_file_range(", "msync("];
    Ok(Some(trace.lines().filter(|line| calls.iter().any(|call| line.contains(call))).count()))
}

async fn network(count: u8, memory: &Path) -> anyhow::Result<Value> {
    let folder = tempfile::tempdir_in(memory)?;
    let genesis = genesis(count)?;
    let handles = start(folder.path(), &genesis).await?;
    let first = handles.first().context("validators were started")?;
    // Until all know each other.
    first.submit(transfer(&genesis, &key(SENDER, 0), 0)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = cpu()?;
    tokio::time::sleep(IDLE).await;
    let idle = (cpu()? - before) / IDLE.as_secs_f64() / f64::from(count);
    let load = load(&handles, &genesis, 0).await?;
    stop(handles).await?;
    Ok(json!({ "validators": count, "idle_core_share_per_node": idle, "load": load }))
}

/// All senders at once, spread over the nodes.
async fn load(handles: &[ValidatorHandle], genesis: &Genesis, skip: u32) -> anyhow::Result<Value> {
    let genesis = Arc::new(genesis.clone());
    let (done, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let latencies = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut senders = tokio::task::JoinSet::new();
    // The first sender may have used nonces already.
    for number in (skip.max(1))..SENDERS {
        let node = handles[number as usize % handles.len()].submitter();
        let (genesis, done) = (Arc::clone(&genesis), Arc::clone(&done));
        let latencies = Arc::clone(&latencies);
        senders.spawn(async move {
            let key = key(SENDER, number);
            let mut nonce = 0;
            while began.elapsed() < LOAD {
                let sent = Instant::now();
                match node.submit(transfer(&genesis, &key, nonce)).await {
                    Ok(_) => nonce += 1,
                    // Full: as a client would, it waits and tries again.
                    Err(_) => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                }
                if began.elapsed() >= WARM_UP && began.elapsed() < LOAD {
                    done.fetch_add(1, Ordering::Relaxed);
                    latencies.lock().expect("no sender panics").push(sent.elapsed());
                }
            }
        });
    }
    tokio::time::sleep(WARM_UP).await;
    let (height, used) = (handles[0].status().tip.height.0, cpu()?);
    tokio::time::sleep(LOAD - WARM_UP).await;
    let (blocks, used) = (handles[0].status().tip.height.0 - height, cpu()? - used);
    let window = (LOAD - WARM_UP).as_secs_f64();
    let txs = done.load(Ordering::Relaxed) as f64;
    while senders.join_next().await.is_some() {}
    let latencies = std::mem::take(&mut *latencies.lock().expect("no sender panics"));
    let (p50, p99) = milliseconds(latencies);
    let nodes = handles.len() as f64;
    Ok(json!({
        "txs_per_s": txs / window, "blocks_per_s": blocks as f64 / window,
        "finality_ms_p50": p50, "finality_ms_p99": p99,
        "cpu_ms_per_block_and_node": used * 1e3 / (blocks as f64).max(1.0) / nodes,
        "cpu_cores": used / window,
    }))
}
