package packing

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	whole      = 1000 // thousandths of a GPU
	mostGPUs   = 64   // of a machine: placements are sets of bits
	mostModels = 64   // of a trace: what a task allows is a set of bits
	everyModel = ^uint64(0)
)

// Machine is a row of the node list.
type Machine struct {
	Name   string
	CPU    int64 // thousandths of a core
	Memory int64 // MiB
	GPUs   int
	Model  string // of its GPUs; "" if the list says nothing

	model uint64 // the bit of Model in Trace.models
}

// Task is a row of the pod list: one instance that asks for room.
type Task struct {
	Name             string
	CPU, Memory      int64
	GPUs             int
	Share            int      // thousandths of each of the GPUs
	Models           []string // that the GPUs may be of, none: any
	Created, Deleted float64  // seconds; Deleted is +Inf if the list does not say

	models uint64 // the bits of Models
	kind   int    // tasks that ask for the same have the same, from 0
}

// gpu is what the task asks for of all its GPUs, in thousandths.
func (t *Task) gpu() int64 { return int64(t.GPUs) * int64(t.Share) }

// Trace is a cluster and what was asked of it, in the order of creation.
type Trace struct {
	Machines []Machine
	Tasks    []Task
	models   []string // a machine's or a task's model, by bit
	kinds    int      // of tasks
}

// ReadTrace reads the file whose name holds "node_list" and the one whose name holds "pod_list" in a directory, both CSV
// with a header. Where there are several, nodes and tasks name the ones to read; "" otherwise. Columns are found by name;
// those that are not needed may be missing. The error names file and line.
func ReadTrace(dir, nodes, tasks string) (*Trace, error) {
	t := &Trace{}
	for _, part := range []struct {
		name, pattern string
		read          func(row) error
	}{
		{nodes, "*node_list*.csv", t.readMachine},
		{tasks, "*pod_list*.csv", t.readTask},
	} {
		files := []string{filepath.Join(dir, part.name)}
		if part.name == "" {
			var err error
			if files, err = filepath.Glob(filepath.Join(dir, part.pattern)); err != nil {
				return nil, fmt.Errorf("look for %s in %s: %w", part.pattern, dir, err)
			}
		}
		if len(files) != 1 {
			return nil, fmt.Errorf("%s has %d files %s: say which with -nodes or -tasks", dir, len(files), part.pattern)
		}
		if err := readTable(files[0], part.read); err != nil {
			return nil, err
		}
	}
	if len(t.Machines) == 0 || len(t.Tasks) == 0 {
		return nil, fmt.Errorf("the trace in %s has %d nodes and %d tasks: nothing to pack", dir, len(t.Machines), len(t.Tasks))
	}
	return t, t.finish()
}

// finish puts the tasks in order and gives the models their bits.
func (t *Trace) finish() error {
	slices.SortStableFunc(t.Tasks, func(a, b Task) int { return cmp.Compare(a.Created, b.Created) })
	t.models = nil
	for i := range t.Machines {
		m := &t.Machines[i]
		if m.GPUs > 0 {
			m.model = t.modelBit(m.Model)
		}
	}
	kinds := map[[5]uint64]int{}
	for i := range t.Tasks {
		k := &t.Tasks[i]
		k.models = 0
		for _, name := range k.Models {
			k.models |= t.modelBit(name)
		}
		if len(k.Models) == 0 {
			k.models = everyModel
		}
		asks := [5]uint64{uint64(k.CPU), uint64(k.Memory), uint64(k.GPUs), uint64(k.Share), k.models}
		if _, ok := kinds[asks]; !ok {
			kinds[asks] = len(kinds)
		}
		k.kind = kinds[asks]
	}
	t.kinds = len(kinds)
	if len(t.models) > mostModels {
		return fmt.Errorf("the trace names %d models of GPUs, more than %d", len(t.models), mostModels)
	}
	return nil
}

func (t *Trace) modelBit(name string) uint64 {
	i := slices.Index(t.models, name)
	if i < 0 {
		i = len(t.models)
		t.models = append(t.models, name)
	}
	return 1 << i
}

func (t *Trace) readMachine(r row) (err error) {
	m := Machine{Name: r.text("sn"), Model: r.text("model")}
	gpus := int64(0)
	if err := errors.Join(r.number("cpu_milli", &m.CPU), r.number("memory_mib", &m.Memory), r.number("gpu", &gpus)); err != nil {
		return err
	}
	if gpus > mostGPUs {
		return fmt.Errorf("gpu is %d, more than %d", gpus, mostGPUs)
	}
	m.GPUs = int(gpus)
	t.Machines = append(t.Machines, m)
	return nil
}

func (t *Trace) readTask(r row) error {
	k := Task{Name: r.text("name"), Deleted: math.Inf(1)}
	gpus, share := int64(0), int64(0)
	if err := errors.Join(r.number("cpu_milli", &k.CPU), r.number("memory_mib", &k.Memory), r.number("num_gpu", &gpus),
		r.number("gpu_milli", &share), r.seconds("creation_time", &k.Created), r.seconds("deletion_time", &k.Deleted)); err != nil {
		return err
	}
	if gpus > mostGPUs {
		return fmt.Errorf("num_gpu is %d, more than %d", gpus, mostGPUs)
	}
	if share > whole {
		return fmt.Errorf("gpu_milli is %d, more than one GPU", share)
	}
	if gpus > 0 && (share == 0 || gpus > 1) {
		share = whole // several GPUs are asked for whole
	}
	if gpus > 0 {
		k.GPUs, k.Share = int(gpus), int(share)
		k.Models = strings.FieldsFunc(r.text("gpu_spec"), func(c rune) bool { return c == '|' || c == ' ' })
	}
	t.Tasks = append(t.Tasks, k)
	return nil
}

// row is a line of a CSV file, its fields found by the column's name.
type row struct {
	columns map[string]int
	fields  []string
}

// text is "" if the column is missing.
func (r row) text(column string) string {
	i, ok := r.columns[column]
	if !ok {
		return ""
	}
	return strings.TrimSpace(r.fields[i])
}

// number reads a count that is not negative; it stays as it is if the field is empty. Other traces write "8.0".
func (r row) number(column string, into *int64) error {
	text := r.text(column)
	if text == "" {
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || f < 0 || f > 1<<50 || f != math.Trunc(f) {
		return fmt.Errorf("%s is %q, not a whole number from 0", column, text)
	}
	*into = int64(f)
	return nil
}

func (r row) seconds(column string, into *float64) error {
	text := r.text(column)
	if text == "" {
		return nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || math.IsNaN(f) {
		return fmt.Errorf("%s is %q, not a time in seconds", column, text)
	}
	*into = f
	return nil
}

// readTable gives every row after the header to a function, and adds file and line to its error.
func readTable(path string, read func(row) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read the trace: %w", err)
	}
	defer f.Close()
	in := csv.NewReader(f)
	header, err := in.Read()
	if err != nil {
		return fmt.Errorf("%s: read the names of the columns: %w", path, err)
	}
	r := row{columns: map[string]int{}}
	for i, name := range header {
		r.columns[strings.TrimSpace(strings.TrimPrefix(name, "\ufeff"))] = i
	}
	for {
		r.fields, err = in.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := read(r); err != nil {
			line, _ := in.FieldPos(0)
			return fmt.Errorf("%s:%d: %w", path, line, err)
		}
	}
}
