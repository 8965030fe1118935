// Package zookeeper registers instances in ZooKeeper as ServerSets, the format
// of Finagle, Aurora and twitter-commons, so that their clients find tasks
// without a change.
//
// # Format
//
// An instance is an ephemeral sequential node below the path of its service
// (by default /<prefix>/<name>):
//
//	/services/web/member_0000000042
//
// Its data are JSON; ports and shard are numbers, "shard" is left out where
// there is none:
//
//	{"serviceEndpoint":{"host":"10.0.0.7","port":31002},"additionalEndpoints":{"admin":{"host":"10.0.0.7","port":31003}},"status":"ALIVE","shard":3}
//
// Finagle ignores nodes whose names do not begin with member_. This rules out
// the protected nodes of Curator (_c_<guid>-member_), so that a create whose
// answer is lost has to be resolved in another way: by listing the members and
// looking for one with our session as owner and our data.
//
// # Sessions
//
// An executor has one session ([ServerSets]), whatever the number of its
// tasks. When it dies its entries vanish with the session, after
// [DefaultSessionTimeout]. When the session expires under a living executor,
// when the server restarts, or when somebody deletes or changes an entry, the
// reconciler of package registry is told and has everything verified again;
// an entry carries a watch, so this takes milliseconds rather than the
// reconciler's interval.
//
// The client library's calls take no context. They are only made while there
// is a session, and return when it is lost: a server that has stopped
// answering is noticed after two thirds of the session timeout. Callers of
// the registry wait with deadlines of their own.
//
// # Credentials
//
// PACER_ZK_AUTH_FILE is the path of a JSON file that others may not read:
//
//	{"auth": [{"scheme": "digest", "credential": "user:password"}],
//	 "acl":  [{"scheme": "auth",  "id": "",       "permissions": ["all"]},
//	          {"scheme": "world", "id": "anyone", "permissions": ["read"]}]}
//
// "auth" is added to the session, "acl" is put on every node that is created.
// The ACL above is the default where there is an "auth". Permissions are read,
// write, create, delete, admin and all.
package zookeeper
