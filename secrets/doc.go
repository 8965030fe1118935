// Package secrets turns labels that app teams write into secret values that
// exactly one task sees. It knows nothing of Mesos and nothing of Vault's
// protocol: labels come in as a map, values come from a [Source], and a [Grant]
// goes out to whoever starts the process.
//
//	labels --ParseLabels--> Declarations --Keeper.Acquire--> Grant
//	Grant.Bundle   every value, complete; wiped when the process runs
//	Grant.Changes  what became of them later
//	Grant.Close    leases and login are given back
//
// # Label grammar
//
//	secret.env.NAME      = PATH#KEY | PATH#KEY@VERSION
//	                       the variable NAME holds one key of a secret
//	secret.env-from.N    = PATH | PATH@VERSION
//	                       every key of the secret becomes a variable of that
//	                       name; N only tells such labels apart
//	secret.file.NAME     = PATH#KEY | PATH#KEY@VERSION | PATH | PATH@VERSION
//	                       [;mode=0400]
//	                       the file $PACER_SECRETS_DIR/NAME holds one key, or
//	                       the whole secret as a JSON object
//	secret.on-change     = noop | signal:HUP | restart     (default noop)
//	                       what the task is told when a value has changed: a
//	                       signal to its main process, or its replacement, one
//	                       instance at a time, by a scheduler that does so
//	secret.refresh       = Go duration, e.g. 5m, at least 10s (default off)
//
// Two older notations are read as well: vault://PATH?key=KEY, where KEY is
// "value" when it is missing, and PATH@KEY where KEY is not a number.
//
// PATH is a path as Vault's command line takes it, mount first, for example
// secret/web/db. One leading slash is dropped. Empty elements, "." and "..",
// and characters that URLs escape are refused, so that the path which a rule
// was checked against is the path that is asked for. VERSION is a positive
// number and needs a version 2 key-value mount.
//
// A variable named by secret.env.NAME wins over the same name in
// secret.env-from.N; two secret.env-from labels with a key in common are an
// error, because nothing says which one wins.
//
// # Changes
//
// What is given with a lease is renewed when two thirds of its time, more or
// less a tenth, have passed. When it cannot be prolonged any more it is read
// anew, if the task wants to know: it has a file of it, or an on-change other
// than noop. Static secrets are read once, at the launch, unless secret.refresh
// asks for more. Files of a running task are replaced; its variables cannot be.
// Changes that come within two seconds are one. An outage changes nothing: a
// task keeps what it has, and attempts are repeated.
//
// # Promises
//
// [ParseLabels] reports every mistake at once and never quotes a value that
// might be a secret by mistake. [Keeper.Acquire] is all or nothing: it reads
// each path once, and returns either every value declared or an error. A
// [Secret] prints as [redacted] through every formatter, encoder and logger.
//
// # What it does not do
//
// It does not protect a value from the process that was given it, nor from
// others of the same Unix user, who can read /proc/PID/environ.
package secrets
