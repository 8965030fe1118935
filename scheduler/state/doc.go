// Package state is what the scheduler remembers over a restart, and nothing
// more: the framework id, app definitions, one small record per task, and what
// is needed to recognise late returns. That a task runs, is healthy or has an
// address is never written: Mesos is asked for it.
//
// # Layers
//
// A [Store] keeps small named nodes and changes several of them atomically.
// bolt does it in a local file; ZooKeeper's multi has the same shape. A
// [Journal] sits on top: it knows the records, packs task records into chunks,
// and commits in groups, so that one transaction carries what gathered while
// the last was under way. Package statetest holds what every Store must pass.
//
//	scheduler -> Change -> Journal -> []Op -> Session -> bolt | ZooKeeper
//
// # Leadership
//
// [Store.Lead] raises the epoch and returns the [Session] that may write.
// Every write checks the epoch, so a scheduler that was paused while another
// took over gets [ErrFenced] and has changed nothing.
//
// # Nodes
//
//	meta/framework                     framework id
//	meta/identity                      signing key, unless a file was given
//	executors/<bucket>/<hash>          ExecutorInfos by their hash
//	apps/<bucket>/<app>                definition and deployment cursor
//	versions/<bucket>/<app>@<version>  old definitions
//	tasks/<bucket>/<chunk>             task records, many in a chunk
//	tombstones/<bucket>/<app>          deleted apps
//	keys/<bucket>/<key id>             public keys
//
// <app> is the path without its leading slash and with "_" for "/", which app
// paths cannot contain. <bucket> is two hex digits, so that no list of
// children grows without bound. No value is above [MaxNode].
//
// # Encoding
//
// Values are protobuf, see record/record.proto. Each begins with the version
// of its format; one above [FormatVersion] is refused ([ErrFormat]), never
// mangled: downgrading the scheduler needs a restored backup. Definitions are
// in package app's encoding, which compresses them.
//
// A task record takes 30 bytes and what it names (agent, host, executor),
// which its chunk holds once for all its records. Chunks are filled to
// [chunkTarget] and are never above [MaxChunk].
package state
