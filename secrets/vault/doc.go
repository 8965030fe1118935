// Package vault reads secrets from HashiCorp Vault for package secrets.
//
// A [Client] is shared by all tasks of an executor. [Client.Open] logs in on
// behalf of one task: with the task's own signed token by the JWT method
// (the default), or with a token file of the host, which then works only below
// the operator's path template. The session reads key-value mounts of version
// 1 and 2; a mount's version is looked up once.
//
// # Failures
//
// The Vault library's own retries are off; there is one loop, here. What it
// does depends on the status code, never on a text:
//
//	refused, timeout, cut answer, 500, 502, 503, 504   wait and ask again
//	412, 429                                           wait and ask again
//	400, 403 and others at login                       fail
//	403 at a read                                      log in once more, then fail
//	404, a deleted version                             fail
//	a certificate that does not verify                 fail
//
// While Vault cannot answer, one request at a time probes it for all tasks of
// the executor, with growing pauses; Retry-After is honoured. The caller is
// told what it waits for. The time to wait is the caller's: it ends with the
// context.
//
// Errors carry the path, the status and a remedy. They never carry Vault's
// answer, which can quote values, nor the token.
package vault
