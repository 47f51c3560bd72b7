package result

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a result of a machine that stands still.
func sample() *Result {
	r := New("c1m")
	r.Machine = Machine{CPUs: 2, Memory: 24 << 30, Kernel: "linux 6.12.0", Go: "go1.26.0", Commit: "0123456789+"}
	r.Set("nodes", 5000)
	r.Set("jobs", 1000)
	r.Add("placed", 47696.4, "/s")
	r.AtMost("running after", 45.42, "s", 60)
	r.AtMost("peak RSS of the leader", 1.75, "GiB", 1.5)
	r.AtLeast("rate", 16700, "/s", 16700)
	r.Add("elections", 0, "")
	r.Add("small", 0.0234567, "ms")
	r.Note("gossip is left out of %d nodes", 5000)
	return r
}

func TestTable(t *testing.T) {
	var b strings.Builder
	if err := sample().Table(&b); err != nil {
		t.Fatal(err)
	}
	const want = `c1m on 2 CPUs, 24.0 GiB, linux 6.12.0, go1.26.0, commit 0123456789+
jobs 1000, nodes 5000

placed                  47696 /s
running after           45.4 s    <= 60 s      met
peak RSS of the leader  1.75 GiB  <= 1.50 GiB  missed
rate                    16700 /s  >= 16700 /s  met
elections               0
small                   0.0235 ms

* gossip is left out of 5000 nodes
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestJSON(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	r := sample()
	r.Figures = r.Figures[:2]
	if err := r.Save(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{
  "scenario": "c1m",
  "machine": {
    "cpus": 2,
    "memory_bytes": 25769803776,
    "kernel": "linux 6.12.0",
    "go": "go1.26.0",
    "commit": "0123456789+"
  },
  "parameters": {
    "jobs": "1000",
    "nodes": "5000"
  },
  "figures": [
    {
      "name": "placed",
      "value": 47696.4,
      "unit": "/s"
    },
    {
      "name": "running after",
      "value": 45.42,
      "unit": "s",
      "target": "<= 60",
      "met": true
    }
  ],
  "notes": [
    "gossip is left out of 5000 nodes"
  ]
}
`
	if string(b) != want {
		t.Errorf("got\n%s\nwant\n%s", b, want)
	}
	if err := r.Save(filepath.Join(path, "x")); err == nil {
		t.Error("a result was saved below a file")
	}
}

func TestFigure(t *testing.T) {
	if f, ok := sample().Figure("rate"); !ok || f.Value != 16700 || !*f.Met {
		t.Errorf("%+v, %v", f, ok)
	}
	if _, ok := sample().Figure("none"); ok {
		t.Error("a figure that is not there")
	}
}

func TestMemTotal(t *testing.T) {
	if n := memTotal("MemFree: 1 kB\nMemTotal:       24684096 kB\n"); n != 24684096<<10 {
		t.Error(n)
	}
	if n := memTotal("MemTotal: many\n"); n != 0 {
		t.Error(n)
	}
}
