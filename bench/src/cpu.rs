//! What a process has used: CPU time in nanoseconds and memory, as Linux has it in /proc. Wall time says nothing on a machine that does
//! other work beside, and the process' own clock in /proc has only ticks of 10 ms: its threads' have nanoseconds, as of their last
//! switch, so whoever asks has to wait until they sleep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail};

/// A process that is watched.
#[derive(Debug, Clone)]
pub struct Process {
    id: u32,
    /// By thread, as last seen: the time of one that has ended counts on.
    threads: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Process {
    /// The process of this id.
    pub fn of(id: Option<u32>) -> anyhow::Result<Self> {
        let id = id.context("the process has no id: it has ended")?;
        Ok(Self { id, threads: Arc::default() })
    }

    /// CPU time so far, in nanoseconds, once all of its threads sleep and none has run since the last look.
    pub async fn cpu_ns_at_rest(&self) -> anyhow::Result<u64> {
        let mut before = None;
        for _ in 0..20_000 {
            let now = self.cpu_ns_if_asleep()?;
            if now.is_some() && now == before {
                return now.context("a time");
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bail!("the process does not come to rest")
    }

    /// CPU time so far, in nanoseconds, as soon as all of its threads sleep. Blocks the caller's thread for as long.
    pub fn cpu_ns_once_asleep(&self) -> anyhow::Result<u64> {
        for _ in 0..10_000 {
            if let Some(cpu_ns) = self.cpu_ns_if_asleep()? {
                return Ok(cpu_ns);
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        bail!("the process does not fall asleep")
    }

    fn cpu_ns_if_asleep(&self) -> anyhow::Result<Option<u64>> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id)).context("the process has ended")? {
            let task = task?;
            let read = |name: &str| std::fs::read_to_string(task.path().join(name));
            // A thread may end meanwhile.
            let (Ok(stat), Ok(schedule)) = (read("stat"), read("schedstat")) else { continue };
            if stat.rsplit_once(") ").is_none_or(|(_, rest)| !rest.starts_with('S')) {
                return Ok(None);
            }
            threads.insert(task.file_name().to_string_lossy().into_owned(), first_number(&schedule)?);
        }
        Ok(Some(threads.values().sum()))
    }

    /// Memory that it holds now, in bytes.
    pub fn resident_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most memory that it has held, in bytes.
    pub fn peak_bytes(&self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        Ok(first_number(line)? * 1024)
    }
}

/// CPU time of this thread, in nanoseconds.
pub fn of_this_thread() -> anyhow::Result<u64> {
    // The kernel brings the thread's time up to date when the thread gives way.
    std::thread::yield_now();
    first_number(&std::fs::read_to_string("/proc/thread-self/schedstat")?)
}

fn first_number(text: &str) -> anyhow::Result<u64> {
    Ok(text.split_whitespace().next().context("a number")?.parse()?)
}
