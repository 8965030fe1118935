// Package process runs tasks as trees of Linux processes: it starts them, keeps
// them inside their limits, tells how they ended, and leaves nothing behind.
//
// It is a boundary. Whatever would be lost if the rest of the executor crashed
// is here and nowhere else: being the parent of the tasks, their exit statuses
// and the read ends of their output pipes. No other package of Pacer calls
// fork, wait or pipe.
//
//	Supervisor --Start--> Process --Done/Exit--> how the main process ended
//	    |                    |------Signal-----> every process of the tree
//	    |                    |------Exec-------> a command check beside the task
//	    |                    '------Kill-------> nothing of the tree is left
//	    '--Close--> every task killed, every child reaped
//
// # Modes
//
// A [Supervisor] chooses once where the tasks' processes live, logs it with the
// reason, and shows it in [Supervisor.Status]:
//
//	v2-nested     cgroup v2 below the cgroup that Mesos made for the container
//	v1-nested     the same with cgroup v1, in each hierarchy that Mesos uses
//	v2-delegated  cgroup v2 below the cgroup an operator names
//	v1-delegated  the same with cgroup v1
//	none          no cgroup: process groups, child subreaper and /proc
//
// It never makes a cgroup outside those places. With a cgroup, a process cannot
// leave its task, unless it runs as root and moves itself. Without one, a task's processes are found by
// process group, by ancestry and by a variable in their environment; a process
// that has left its session, lost its parents and cleared its environment is
// found only while no other task runs. Status says so.
//
// # Guarantees
//
//   - After [Process.Kill] returns nil no process of the task runs, its zombies
//     are reaped, its output is written, and its cgroup is gone.
//   - No signal reaches a process that is not the task's, even when process ids
//     are reused: the main process stays unreaped as long as its id or its
//     process group is used, other processes are signalled through a pidfd, or
//     while frozen, or as unreaped children of this process.
//   - Children that other code of this process started are not reaped, as long
//     as they stay in this process's group, where os/exec leaves them.
//   - A task is in its own process group and in its parent's session, because
//     Mesos' posix launcher finds what is left of a dead executor by session.
//   - A task's environment appears in no argument list and no file.
//
// # Secrets
//
// Secret variables pass to the program as bytes that are wiped after the start.
// Secret files are in memory, in the directory that [SecretsVariable] names: a
// tmpfs (noexec, nosuid, nodev, and noswap from kernel 6.4 on) in a mount
// namespace of the task's own, or, where this process may not mount, nameless
// files (memfd) that the task inherits, with links to them in .secrets below its
// directory. Either way they are gone with the task's processes, also when this
// process dies, so that there is nothing to clean up. A task that closes
// descriptors which it did not open loses the latter.
//
// # The re-exec shim
//
// Where the kernel cannot create a process inside a cgroup, or resource limits
// have to be set between fork and exec, the program starts itself under another
// name and waits to be released. Therefore main and TestMain call [RunShim]
// before anything else.
package process
