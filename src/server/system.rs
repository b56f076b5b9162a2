//! What the system grants this process: descriptors, threads and memory maps, found out before they are missed.

use std::fs;
use std::path::Path;

use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};

use super::limits::Limits;

/// Memory maps that a thread takes: its stack and its signal stack, each with a guard. Ours: counted on Linux with
/// glibc. A thread that finds no map for its signal stack ends the whole process, so it must not come to that.
const MAPS_PER_THREAD: usize = 4;
/// Threads beside the readers. Ours: accept, writers, disk, signals and the workers.
const OTHER_THREADS: usize = 16;
/// Memory maps beside those of the threads. Ours: libraries, the allocator's arenas, large buffers.
const OTHER_MAPS: usize = 1024;
/// Descriptors that a transfer takes at most. Ours: counted on Linux, an upload over TCP has its connection, its unfinished
/// file and the state of that, and the disk thread has the two files once more.
const FILES_PER_TRANSFER: usize = 5;
/// This part of what there is stays for strangers and transfers at least, if they may have so much. Ours.
const SPARE_PART: usize = 8;

/// Lets this process have as many descriptors as the system grants it: each client is one, and the usual soft limit is
/// 1,024. What cannot be had is found out by [`Server::start`](super::Server::start).
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Something that the system has a limited number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Supply {
    /// How many clients could have theirs if there were nobody else.
    clients: usize,
    /// How many clients' worth strangers and transfers would take.
    others: usize,
    /// How the person who runs the server gets more.
    remedy: &'static str,
}

/// How many clients the system allows, and what would allow more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
    pub(super) clients: usize,
    pub(super) strangers: usize,
    pub(super) remedy: &'static str,
}

impl Supply {
    fn spare(&self) -> usize {
        self.others.min(self.clients / SPARE_PART)
    }

    fn capacity(&self) -> Capacity {
        // Half of what is left beside the clients may be taken by who has not said anything yet.
        let (clients, strangers) = (self.clients - self.spare(), self.spare() / 2);
        Capacity { clients: clients.max(1), strangers: strangers.max(1), remedy: self.remedy }
    }
}

/// What the scarcest of the system's supplies allows; `None` where nothing is known of any.
pub(super) fn capacity(limits: &Limits) -> Option<Capacity> {
    supplies(limits).into_iter().map(|supply| supply.capacity()).min_by_key(|capacity| capacity.clients)
}

fn supplies(limits: &Limits) -> Vec<Supply> {
    let Limits { unregistered_max, transfers_max, .. } = *limits;
    let with_files = unregistered_max.saturating_add(transfers_max.saturating_mul(FILES_PER_TRANSFER));
    // The thread of a transfer over TCP and its maps are those of its connection.
    let with_threads = unregistered_max.saturating_add(transfers_max);
    let mut supplies = Vec::new();
    let mut add = |available: usize, others, remedy| {
        supplies.push(Supply { clients: available, others, remedy });
    };
    if let Some(descriptors) = getrlimit(Resource::Nofile).current {
        let open = fs::read_dir("/proc/self/fd").map_or(OTHER_THREADS, Iterator::count);
        add(to_count(descriptors).saturating_sub(open), with_files, "raise `ulimit -n`");
    }
    if let Some(maps_max) = number("/proc/sys/vm/max_map_count") {
        let used = fs::read_to_string("/proc/self/maps").map_or(0, |maps| maps.lines().count());
        let threads = maps_max.saturating_sub(used + OTHER_MAPS) / MAPS_PER_THREAD;
        add(threads, with_threads, "raise `sysctl vm.max_map_count`");
    }
    for (threads, remedy) in thread_limits() {
        add(threads.saturating_sub(OTHER_THREADS), with_threads, remedy);
    }
    supplies
}

/// How many threads there may be, by each limit that can be found.
fn thread_limits() -> Vec<(usize, &'static str)> {
    let mut limits = Vec::new();
    if let Some(all) = number("/proc/sys/kernel/threads-max") {
        limits.push((all.saturating_sub(threads_of_all()), "raise `sysctl kernel.threads-max`"));
    }
    // The superuser is exempt. Of others it is not known how many threads they have elsewhere.
    if let Some(of_user) = getrlimit(Resource::Nproc).current.filter(|_| !geteuid().is_root()) {
        limits.push((to_count(of_user), "raise `ulimit -u`"));
    }
    for group in pid_groups() {
        if let Some(max) = number(format!("{group}/pids.max")) {
            let current = number(format!("{group}/pids.current")).unwrap_or(0);
            limits.push((max.saturating_sub(current), "raise pids.max of its control group"));
        }
    }
    limits
}

/// Threads of all processes: the number behind the slash in `0.20 0.18 0.12 1/80 11206`.
fn threads_of_all() -> usize {
    let loads = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let all = loads.split_ascii_whitespace().nth(3).and_then(|field| field.split_once('/'));
    all.and_then(|(_, all)| all.parse().ok()).unwrap_or(0)
}

/// The folders of the control groups that may bound the number of threads: this process's own and all above it.
fn pid_groups() -> Vec<String> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            _ if controllers.split(',').any(|name| name == "pids") => "/sys/fs/cgroup/pids",
            _ => continue,
        };
        let above = Path::new(path).ancestors().filter_map(Path::to_str);
        groups.extend(above.map(|path| format!("{root}{}", path.trim_end_matches('/'))));
    }
    groups
}

/// The number in a file of the system; `None` for `max` too.
fn number(path: impl AsRef<Path>) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn to_count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_and_transfers_keep_an_eighth() {
        let capacity = |clients, others| {
            let Capacity { clients, strangers, .. } = Supply { clients, others, remedy: "" }.capacity();
            (clients, strangers)
        };
        assert_eq!(capacity(50_000, 5_184), (44_816, 2_592), "there is enough for all that they may have");
        assert_eq!(capacity(4_080, 5_184), (3_570, 255));
        assert_eq!(capacity(48, 5_184), (42, 3));
        assert_eq!(capacity(3, 5_184), (3, 1));
        assert_eq!(capacity(0, 5_184), (1, 1), "whoever starts a server wants one client at least");
    }

    #[test]
    fn this_system_is_understood() {
        let limits = Limits::default();
        let supplies = supplies(&limits);
        assert!(supplies.len() >= 3, "descriptors, maps and threads at least: {supplies:?}");
        assert!(supplies.iter().all(|supply| supply.clients > 0), "{supplies:?}");
        let scarcest = capacity(&limits).expect("known");
        assert!(supplies.iter().any(|supply| supply.remedy == scarcest.remedy));
        assert!((1..100_000).contains(&threads_of_all()));
    }
}
