package api

import (
	"context"
	"io"
	"strings"
)

// Former is an allocation that had a slot before another one, as the node of that one is told of it.
type Former struct {
	Allocation ID
	Node       string // ID
	NodeName   string
}

// FetchRequest is about the sticky directory of a former allocation of a slot.
type FetchRequest struct {
	Allocation ID   // that takes it over
	Former     ID   // whose it is
	Taken      bool // it has been taken over: its node need not keep it any more, and nothing is streamed
}

// Estates is what nodes ask of servers about directories that are on other nodes.
type Estates interface {
	// Fetch streams a directory, in the layout of client/estate, to the node of the allocation that takes it over, which
	// is the only one that may ask. It goes from node to node through the servers. The caller closes what it gets; that is nil
	// with Taken. CodeNotFound: nothing of it is there (any more). CodeConflict: its node is down. CodeBusy: it is still in
	// use, or others are being sent.
	Fetch(ctx context.Context, node string, r FetchRequest) (io.ReadCloser, error)
}

// What becomes of the data of a sticky directory when the next instance is placed on another node.
const (
	MoveTry   = "try"   // it is moved if it can be; else the instance begins with an empty directory
	MoveMust  = "must"  // likewise, but the instance does not begin without it
	MoveNever = "never" // it stays where it is
)

// How the status of an instance that took over a directory, or should have, begins while nothing else is to be said of it.
const (
	DataFetched    = "data fetched from node "
	DataNotFetched = "data not fetched from node "
)

// DataNote returns a message of a status if it tells what came of the taking over of a directory, else "". The state tells it as part
// of the instance's start.
func DataNote(message string) string {
	if strings.HasPrefix(message, DataFetched) || strings.HasPrefix(message, DataNotFetched) {
		return message
	}
	return ""
}
