// Package labels is the grammar of the labels by which app teams ask for
// registration, a drain delay and health checks. Scheduler and executor both
// read them with [Parse]: when an app is submitted and again at launch, so that
// neither accepts what the other refuses. It is a leaf and knows nothing of
// Mesos or of any registry. The labels about secrets are package secrets'.
//
// # Registration
//
//	service.name         name under which the first port is registered, with
//	                     all named ports beside it as further endpoints
//	service.<port>.name  name for one port, given by its name or its index
//	                     (from 0)
//	service.tags         comma-separated tags, for Consul
//	service.required     true (default): failing to register in time fails the
//	                     launch; false: keep trying beside the running task
//	drain                Go duration between deregistration and SIGTERM, from 0
//	                     (default) to the operator's limit, 5m
//
// Where Consul is configured, the labels of marathon-consul work as well, for
// Consul alone: the label "consul" has the names, comma-separated; empty or
// "true" means the app's path with "/" as "-". Labels with the value "tag"
// are tags. As soon as one port definition has the label "consul", names are
// taken from the ports only; a port's labels with the value "tag" are tags of
// its services, those with "tag:<name>" of one of them.
//
// A name has 1 to 63 letters, digits, "-", "_" and "."; it begins and ends
// with a letter or a digit. An app registers a name once; where labels of both
// kinds give the same name to the same port, it is one service with the tags of
// both.
//
// # Health checks
//
// Labels add to the app's health check what the definition cannot say:
//
//	health.success-threshold  successes in a row that make the task healthy
//	health.host               Host header, and for HTTPS the server's name
//	health.header.<Name>      another request header
//	health.body               text that the answer has to contain
//	health.statuses           accepted codes, e.g. 200-299,401
//	health.redirects          how many redirects are followed, 0 to 20
//	health.verify             true: the certificate has to be valid for the host
//
// and, with a name of their own, further checks:
//
//	health.<name>.protocol    http, https, tcp or command; http unless there is
//	                          a command
//	health.<name>.port        name or index of a port, the first by default
//	health.<name>.path        for http and https, "/" by default
//	health.<name>.command     line for the shell
//	health.<name>.failures    counted failures in a row that end the task, 0 for
//	                          never
//	health.<name>.delay       and interval, timeout, grace: Go durations
//	health.<name>.ip          4 (default) or 6: which loopback address
//
// as well as those above. What is not given about time and thresholds is as in
// the app's own check. A task is healthy when all its checks say so, unhealthy
// when one does, and ended when one reaches its threshold.
package labels
