// Package artifact fetches the files that a task asked for into its directory,
// before it starts and as its user.
//
// [Fetcher.Fetch] runs this very program once more, as the task's user and in a
// process tree of its own, which ends with the call: so a file:// source is read
// and a file is written with that user's rights only, what an archive does to
// the memory is done to that process, and a KILL reaches it. [RunFetcher] is the
// other end; main calls it first.
//
//	Fetcher --PACER_FETCH_JOB--> this program as the task's user --> files
//	   ^ '--- Cache: whole files by their SHA-256, read-only ---^
//
// # What is fetched
//
// Sources are http, https (redirects followed, 200 wanted), file and absolute
// paths. As with Mesos' fetcher the file's name is what follows the last slash of
// the URI, a query included, unless output_file says otherwise; executable makes
// its mode 0755, and otherwise it is extracted if asked for and if its name ends
// in one of
//
//	.tar .tgz .tar.gz .tbz2 .tar.bz2 .txz .tar.xz .zip .gz
//
// The archive stays beside its contents, unless it is cached. A file with a
// sha256 that differs from what was fetched fails the task.
//
// With cache and sha256 a file is fetched once for all tasks of the executor;
// tasks that want it at the same time wait for the first one. cache without a
// sha256 does nothing, because there would be no telling whether the file has
// changed.
//
// # What archives cannot do
//
// Write outside the directory (by "..", an absolute name, or a link), make
// devices, set-user-ID files or links that lead outside, or become larger than
// [Limits] allow. An archive that tries fails the task.
package artifact
