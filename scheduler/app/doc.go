// Package app is the definition of an app, in the dialect of Marathon's v2 API.
//
// A definition is parsed and validated once, when it is submitted: [Parse]
// makes an [App] of a body, [App.Merge] lays a body of changes over the stored
// one. Both report every problem at once, as an [*Error] of [Problem]s, each
// with the JSON path of the field, what is wrong and what to write instead.
// From then on everything works with the typed, normalised App, which is never
// changed once others can see it: who wants another one takes a [App.Clone].
//
// Unknown fields are errors, because a mistyped name would otherwise be a
// setting silently lost. Nulls mean "not given", and the fields that only a
// GET returns (tasks, counters, version, deployments ...) are ignored, so that
// a client can send back what it read. Features of Marathon that Pacer does
// not have (containers, pods, residency, networks other than the host's ...)
// are refused by name, unless their value is the empty one that Marathon's own
// GET returns.
//
// [Compare] says what a change means for running instances. [Encode] and
// [Decode] are the form in the store, [App.JSON] the form in the API; a
// [Stamper] gives versions. [Conflict] finds apps above or below another one.
//
// Pacer's own additions to Marathon's fields are "deployment" (deadline and
// automatic rollback) and "sha256" of a fetched URI.
package app
