package api

// WindowSize is how many characters a terminal shows.
type WindowSize struct {
	Rows    uint16
	Columns uint16
}
