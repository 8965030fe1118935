// Package hashicorp starts real Vault and Consul servers for tests and
// benchmarks.
//
// Neither is packaged by Debian, so both are built from their Go modules at
// exact versions: Vault's core behind a small main of our own in the nested
// module integration/vault, and Consul itself as a Go tool of the nested module
// integration/consul. Nested, so that their several hundred dependencies stay
// out of the main go.mod. The first build of each takes about three minutes
// and 2.5 GB of modules; the binary is kept outside the tree, in the user's
// cache directory, under a name that has the version and a hash of what it is
// made from. A consul in PATH is used instead when there is one.
//
// [Build] does that ahead of the tests and says what it does; make servers
// calls it.
package hashicorp
