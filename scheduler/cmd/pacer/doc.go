// Command pacer is Pacer's command line for people: it applies, lists, shows,
// scales and deletes apps over the scheduler's API.
//
// The exit code is 0 when what was asked for has happened, 1 when the
// scheduler refused it, could not be reached, or a deployment that --wait
// waited for failed or took too long, and 2 when the command itself or a file
// was wrong. An error is one line on stderr, naming fields by their JSON
// paths. Results go to stdout, progress to stderr.
package main
