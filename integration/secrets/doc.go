// Package secrets has the tests of secrets against a real Vault: who may read
// what, every way to log in, leases, outages, and what is left behind. The
// set-up of Vault is not the tests' own: it is read from the package comment of
// secrets/vault and carried out, so that the documented commands are tried.
package secrets
