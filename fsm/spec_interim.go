package fsm

import (
	"reflect"

	"cube/api"
)

// specEqual and sameInstance stand here until api has them.
func specEqual(a, b *api.Job) bool {
	x, y := *a, *b
	for _, j := range []*api.Job{&x, &y} {
		j.Version, j.Stopped, j.Source, j.CreateIndex, j.ModifyIndex = 0, false, nil, 0, 0
	}
	y.SubmittedAt = x.SubmittedAt
	return reflect.DeepEqual(x, y)
}

func sameInstance(a, b *api.Task) bool {
	x, y := *a, *b
	x.Count, y.Count = 0, 0
	return reflect.DeepEqual(x, y)
}
