// Package logs keeps what tasks write to stdout and stderr in files that the
// Mesos agent serves, bounded in size, with every byte in order.
//
// [Open] opens the pair of files of one task; each [File] is an io.Writer that
// rotates: stdout, stdout.1 (newest) ... stdout.N (oldest). A line is never
// divided between two files unless it is longer than a file may be. A [Pump]
// copies from a pipe to such a file with memory that does not grow with the
// output: a task that writes faster than the disk takes it waits in write(2).
//
// [Own] is this process's own stderr, which the Mesos agent has opened and
// nobody can open anew: it is copied to stderr.1 and truncated.
//
// Files are opened below a directory handle and never through a symbolic link,
// so a task that can write to the directory cannot make the executor write
// elsewhere, nor make a file grow beyond its bound; it can destroy its own logs.
package logs
