// Package standin has small in-process servers that take the place of
// ZooKeeper and Vault in the demo, so that it runs on a machine without
// packages to install and without root.
//
// They are for the demo alone. [ZooKeeper] keeps its tree in memory and speaks
// the part of the client protocol that a registry and its readers use:
// sessions with ephemeral and sequential nodes, one-shot watches, version
// checks. No quorum, no ACLs, no disk. [Vault] holds one version 2 key-value
// mount behind the JWT login method: it verifies each token against the
// scheduler's published keys and lets an app read below its own path only.
// Tests use the real servers.
package standin
