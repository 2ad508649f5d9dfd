//! System calls that are denied with any arguments, by reason, and denied commands of `ioctl` and `fcntl`.

#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "a hundred and forty names, each used once below"
    )
)]
use libc::*;

use crate::gpu;

/// All denied calls. GPU drivers talk to daemons, pin and prioritise their threads, share memory and compile code, so these calls stay
/// allowed in builds with a GPU backend.
pub(super) const DENIED: &[&[i64]] = &[
    ATTRIBUTES,
    NAMES,
    PROGRAMS,
    PROCESSES,
    SIGNALS,
    KEYS,
    MOUNTS,
    WATCHES,
    KERNEL,
    DISKS,
    ADMINISTRATION,
    LEGACY,
    if gpu::IN_BUILD { &[] } else { SOCKETS },
    if gpu::IN_BUILD { &[] } else { SCHEDULING },
    if gpu::IN_BUILD { &[] } else { SHARED_MEMORY },
    if gpu::IN_BUILD { &[] } else { DESCRIPTORS },
];

/// Calls that change modes, owners, times and other attributes of any file of the same user, which Landlock does not restrict.
const ATTRIBUTES: &[i64] = &[
    SYS_fchmod,
    SYS_fchmodat,
    FCHMODAT2,
    SYS_fchown,
    SYS_fchownat,
    SYS_setxattr,
    SYS_lsetxattr,
    SYS_fsetxattr,
    SETXATTRAT,
    SYS_removexattr,
    SYS_lremovexattr,
    SYS_fremovexattr,
    REMOVEXATTRAT,
    SYS_utimensat,
    FILE_SETATTR,
];

/// Calls that create, remove, rename and truncate files, for kernels without Landlock or with an old version.
const NAMES: &[i64] = &[
    SYS_mkdirat,
    SYS_mknodat,
    SYS_unlinkat,
    RENAMEAT,
    SYS_renameat2,
    SYS_linkat,
    SYS_symlinkat,
    SYS_truncate,
];

/// Calls of [`NAMES`] and [`LEGACY`] with which a driver maintains its cache.
pub(super) const CREATION: &[i64] = &[
    SYS_mkdirat,
    SYS_unlinkat,
    RENAMEAT,
    SYS_renameat2,
    #[cfg(target_arch = "x86_64")]
    SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    SYS_rename,
];

/// Calls that start programs, or leave the process group that the server ends.
const PROGRAMS: &[i64] = &[SYS_execve, SYS_execveat, SYS_setpgid, SYS_setsid];

/// Calls that access other processes and their memory.
const PROCESSES: &[i64] = &[
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_process_mrelease,
    SYS_migrate_pages,
    SYS_move_pages,
];

/// Calls that signal other processes. `tgkill` is denied for other processes only.
const SIGNALS: &[i64] = &[
    SYS_kill,
    SYS_tkill,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_pidfd_send_signal,
];

/// Calls that access the keyrings of the user and of the session.
const KEYS: &[i64] = &[SYS_add_key, SYS_keyctl, SYS_request_key];

/// Calls for namespaces and mounts; a process can be root in its own namespace.
const MOUNTS: &[i64] = &[
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    OPEN_TREE_ATTR,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
];

/// Calls that reveal names and changes of files, even of those that cannot be read.
const WATCHES: &[i64] = &[
    SYS_inotify_init1,
    SYS_inotify_add_watch,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
];

/// Calls for parts of the kernel that no model needs, and that had many vulnerabilities.
const KERNEL: &[i64] = &[
    SYS_bpf,
    SYS_memfd_secret,
    SYS_io_uring_setup,
    SYS_io_uring_enter,
    SYS_io_uring_register,
    SYS_perf_event_open,
    SYS_personality,
    SYS_userfaultfd,
];

/// Calls that write back the data of all programs, and so delay them.
const DISKS: &[i64] = &[SYS_sync, SYS_syncfs];

/// Calls for administrators, in case the process runs as root.
const ADMINISTRATION: &[i64] = &[
    SYS_acct,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_clock_settime,
    SYS_delete_module,
    SYS_finit_module,
    SYS_init_module,
    KEXEC_FILE_LOAD,
    SYS_kexec_load,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_reboot,
    SYS_setdomainname,
    SYS_sethostname,
    SYS_settimeofday,
    SYS_swapoff,
    SYS_swapon,
    SYS_syslog,
    SYS_vhangup,
];

/// Calls that create and connect sockets. Container engines, D-Bus and key agents listen on Unix sockets, and one of a pair of datagram
/// sockets can be connected to any other.
const SOCKETS: &[i64] = &[SYS_socket, SYS_socketpair, SYS_connect];

/// Calls that change the priority of any process of the same user.
const SCHEDULING: &[i64] = &[
    SYS_ioprio_set,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
];

/// Calls for shared memory, queues and semaphores of System V and POSIX, which every process of the user can name.
const SHARED_MEMORY: &[i64] = &[
    SYS_memfd_create,
    SYS_mq_open,
    SYS_mq_unlink,
    SYS_msgctl,
    SYS_msgget,
    SYS_msgrcv,
    SYS_msgsnd,
    SYS_semctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_shmat,
    SYS_shmctl,
    SYS_shmdt,
    SYS_shmget,
];

/// Calls that access open files of other processes.
const DESCRIPTORS: &[i64] = &[SYS_kcmp, SYS_pidfd_getfd, SYS_pidfd_open];

/// Older forms of the calls above, and other calls that only this architecture has.
#[cfg(target_arch = "x86_64")]
const LEGACY: &[i64] = &[
    SYS_chmod,
    SYS_chown,
    SYS_lchown,
    SYS_utime,
    SYS_utimes,
    SYS_futimesat,
    SYS_mkdir,
    SYS_mknod,
    SYS_unlink,
    SYS_rmdir,
    SYS_rename,
    SYS_link,
    SYS_symlink,
    SYS_fork,
    SYS_vfork,
    SYS_inotify_init,
    SYS_iopl,
    SYS_ioperm,
    SYS_modify_ldt,
];
#[cfg(target_arch = "aarch64")]
const LEGACY: &[i64] = &[];

// These have the same number on every architecture, and no name in `libc` yet.
const FCHMODAT2: i64 = 452;
const SETXATTRAT: i64 = 463;
const REMOVEXATTRAT: i64 = 466;
const OPEN_TREE_ATTR: i64 = 467;
const FILE_SETATTR: i64 = 469;

// These have a name in `libc`, but not for every C library of aarch64.
const IS_X86_64: bool = cfg!(target_arch = "x86_64");
const KEXEC_FILE_LOAD: i64 = if IS_X86_64 { 320 } else { 294 };
const RENAMEAT: i64 = if IS_X86_64 { 264 } else { 38 };

/// Flags of `clone` that put a thread into a namespace of its own.
pub(super) const NAMESPACES: &[c_int] = &[
    CLONE_NEWNS,
    CLONE_NEWCGROUP,
    CLONE_NEWUTS,
    CLONE_NEWIPC,
    CLONE_NEWUSER,
    CLONE_NEWPID,
    CLONE_NEWNET,
];

/// Denied commands of `ioctl`: signals to another process when a file is readable, attributes of files (one makes a file immutable
/// forever), and input for a terminal.
pub(super) const IOCTLS: &[u32] = &[
    0x8901,      // FIOSETOWN
    0x8902,      // SIOCSPGRP
    0x4008_6602, // FS_IOC_SETFLAGS
    0x4004_6602, // FS_IOC32_SETFLAGS
    0x401c_5820, // FS_IOC_FSSETXATTR
    0x4080_6685, // FS_IOC_ENABLE_VERITY
    0x5412,      // TIOCSTI
    0x541c,      // TIOCLINUX
];

/// Denied commands of `fcntl`: signals to another process when a file is readable, leases that delay writers, and watches of directories.
pub(super) const FCNTLS: &[u32] = &[
    8,    // F_SETOWN
    10,   // F_SETSIG
    15,   // F_SETOWN_EX
    1024, // F_SETLEASE
    1026, // F_NOTIFY
];
