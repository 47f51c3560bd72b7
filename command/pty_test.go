package command

import (
	"io"
	"strings"
	"testing"

	"github.com/creack/pty"
)

// TestARealTerminalIsRecognized runs commands on a pseudo terminal: its size is found out, colours are used, and a table
// is as wide as it.
func TestARealTerminalIsRecognized(t *testing.T) {
	person, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	if err := pty.Setsize(tty, &pty.Winsize{Cols: 97, Rows: 30}); err != nil {
		t.Fatal(err)
	}
	c := newFakeCluster()
	populated(c)
	m := newMeta(tty, tty, tty)
	m.Getenv = func(string) string { return "" }
	m.Connect = newTerminal(t, c).meta.Connect
	if columns, rows, ok := m.Size(); columns != 97 || rows != 30 || !ok {
		t.Fatalf("size %d x %d, terminal: %v", columns, rows, ok)
	}
	seen := make(chan string)
	go func() {
		b, _ := io.ReadAll(person) // ends with EIO when the terminal's other end is closed
		seen <- string(b)
	}()
	if code := m.main([]string{"node", "status"}); code != 0 {
		t.Errorf("exit code %d", code)
	}
	tty.Close()
	screen := <-seen
	if !strings.Contains(screen, green+"ready"+reset) {
		t.Errorf("no colours: %q", screen)
	}
	header, _, _ := strings.Cut(screen, "\r\n")
	if w := textWidth(header); w > 97 {
		t.Errorf("the table is %d columns wide", w)
	}
}

func TestAFileIsNoTerminal(t *testing.T) {
	m := newMeta(nil, io.Discard, io.Discard)
	if m.isTerminal() {
		t.Error("io.Discard passes for a terminal")
	}
}
