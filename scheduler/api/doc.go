// Package api is the scheduler's HTTP API: the subset of Marathon's v2 dialect
// that its clients need, over a [Backend].
//
// [New] makes the handler for operators and clients, [NewPublic] the one for
// agents and Vault (the executor's binary and the public keys), which needs no
// authentication and gets a listener of its own.
//
// Error bodies are {message} or {message, details: [{path, errors[]}]}. What a
// client did wrong is always a 4xx: clients of Marathon take a host that
// answers 5xx for dead. What changes something answers with the header
// Marathon-Deployment-Id.
//
// # What is Pacer's own
//
// Replies to changes have "changes": for each app what is done, how many
// instances it restarts, and by which fields; ?dryRun=true says only that.
// Marathon does the latter for groups, with the same "steps".
//
// GETs of apps, groups, tasks and deployments have an ETag and answer
// If-None-Match with 304. The ETag of an app is "<version>+<state>"; If-Match
// compares the version alone, so that what instances do in between does not
// refuse a change (412).
//
// A change of several apps (an array, a group, kills with scale=true) is one
// deployment whose parts end by themselves; DELETE /v2/deployments/{id} with
// ?app= ends some of them.
//
// Groups are a view over the paths of apps. None is stored, hence none is
// empty and none has versions.
//
// # Events
//
// GET /v2/events takes event_type and app, each any number of times; app is a
// path, and everything below it counts. Every event is below 4 KiB and has an
// id. A reader that comes back with Last-Event-ID goes on where it was, which
// the first event, event_stream_attached, confirms by "resumed". One that
// falls more than 10,000 events behind gets event_stream_detached and is cut
// off: it then has to read the state anew.
//
// No request renders or parses more than it is about: definitions come
// rendered from the Backend, lists are put together from these bytes and the
// live counters.
package api
