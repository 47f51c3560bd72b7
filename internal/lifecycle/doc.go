// Package lifecycle holds no code but a property test of all that happens to tasks: the real state, the real scheduler, the real judgement of
// deployments and drains, with a log, a leader and nodes made up in one goroutine. There is no I/O and no waiting, so a history of a day
// takes milliseconds and thousands of them are gone through; what they find becomes a test of the package that was wrong.
//
//	go test -tags hashicorpmetrics ./internal/lifecycle -seeds 10000 -seed 2
package lifecycle
