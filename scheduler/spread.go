package scheduler

import "cube/api"

// spreadTable is how a task's instances stand over the values of one attribute.
//
// A value's cost is its next instance divided by the instances that its share of the whole would give it if all values
// had one each: with even shares it rises by one unit an instance, with a share twice as large by half a unit. Taking the
// cheapest value again and again is D'Hondt's method of handing out seats by votes. The cost of a value depends on its own
// instances only; that is what lets ranking mend one group a placement.
type spreadTable struct {
	of     []int32 // each open node's value
	counts []int32 // instances that each value has
	unit   []float64
}

// leastShare stands for a share of nothing: such a value is the last resort, and still used evenly.
const leastShare = 1.0 / 1000

func (t *spreadTable) cost(value int32) float64 { return float64(t.counts[value]+1) * t.unit[value] }

func newSpreadTables(r *request, rows []api.AllocationRow) []spreadTable {
	var tables []spreadTable
	for _, s := range r.task.Spreads {
		tables = append(tables, newSpreadTable(r, s, rows))
	}
	return tables
}

// newSpreadTable counts the task's instances by value. Only values that a node the task could go to has take part. Nodes
// without the attribute are one more value, with a share of nothing.
func newSpreadTable(r *request, s api.Spread, rows []api.AllocationRow) spreadTable {
	v := r.view
	t := spreadTable{of: make([]int32, len(v.nodes))}
	known := map[string]int32{}
	var names []string
	unset := int32(-1)
	r.open.each(func(node int) {
		name, ok := v.nodes[node].Attribute(s.Attribute)
		value, seen := known[name]
		if !ok {
			value, seen = unset, unset >= 0
		}
		if !seen {
			value = int32(len(names))
			names = append(names, name)
			if ok {
				known[name] = value
			} else {
				unset = value
			}
		}
		t.of[node] = value
	})
	t.counts = make([]int32, len(names))
	for i := range rows {
		row := &rows[i]
		if !row.Live() || row.Desired != api.DesiredRun || row.Task != r.task.Name || row.NodeOrdinal < 0 {
			continue
		}
		name, ok := v.nodes[row.NodeOrdinal].Attribute(s.Attribute)
		if value, seen := known[name]; ok && seen {
			t.counts[value]++
		} else if !ok && unset >= 0 {
			t.counts[unset]++
		}
	}
	t.unit = spreadUnits(s, names, unset)
	return t
}

// spreadUnits is what an instance costs on each value: the spread's weight over the value's share, relative to even
// shares. What the targets leave of 100 percent is shared evenly by the values that are no target.
func spreadUnits(s api.Spread, names []string, unset int32) []float64 {
	targets := make(map[string]float64, len(s.Targets))
	left := 1.0
	for _, target := range s.Targets {
		targets[target.Value] = float64(target.Percent) / 100
		left -= float64(target.Percent) / 100
	}
	total, others := 0, 0
	for i, name := range names {
		if int32(i) == unset {
			continue
		}
		total++
		if _, ok := targets[name]; !ok {
			others++
		}
	}
	units := make([]float64, len(names))
	for i, name := range names {
		share, ok := targets[name]
		switch {
		case int32(i) == unset:
			share = 0
		case !ok:
			share = left / float64(others)
		}
		units[i] = float64(s.Weight) * spreadUnit / (max(share, leastShare) * float64(max(total, 1)))
	}
	return units
}
