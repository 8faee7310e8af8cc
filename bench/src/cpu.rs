//! What a process has used: CPU time in nanoseconds and memory. The CPU time is the kernel's clock of the whole process, threads that
//! have ended included; wall time says nothing on a machine that does other work beside.

use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// A process that is watched.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    id: u32,
    clock: ClockId,
}

impl Process {
    /// The process of this id.
    pub fn of(id: Option<u32>) -> anyhow::Result<Self> {
        let id = id.context("the process has no id: it has ended")?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(id)?))?;
        Ok(Self { id, clock })
    }

    /// CPU time so far, in nanoseconds.
    pub fn cpu_ns(self) -> anyhow::Result<u64> {
        nanoseconds(self.clock.now().context("the process has ended")?)
    }

    /// CPU time once the process has nothing left to do: all of its threads sleep and the clock stands still.
    pub async fn cpu_ns_at_rest(self) -> anyhow::Result<u64> {
        let mut before = self.cpu_ns()?;
        for _ in 0..20_000 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let now = self.cpu_ns()?;
            if now == before && self.sleeps()? {
                return Ok(now);
            }
            before = now;
        }
        anyhow::bail!("the process does not come to rest")
    }

    fn sleeps(self) -> anyhow::Result<bool> {
        for task in std::fs::read_dir(format!("/proc/{}/task", self.id))? {
            // A thread may end meanwhile.
            let Ok(stat) = std::fs::read_to_string(task?.path().join("stat")) else { continue };
            let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
            if state != Some('S') {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Memory that it holds now, in bytes.
    pub fn resident_bytes(self) -> anyhow::Result<u64> {
        self.status("VmRSS:")
    }

    /// The most memory that it has held, in bytes.
    pub fn peak_bytes(self) -> anyhow::Result<u64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024)
    }
}

/// CPU time of this thread, in nanoseconds.
pub fn of_this_thread() -> anyhow::Result<u64> {
    nanoseconds(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?)
}

fn nanoseconds(time: TimeSpec) -> anyhow::Result<u64> {
    ensure!(time.tv_sec() >= 0, "a clock before its beginning");
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}
