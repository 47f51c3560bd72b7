package api_test

import (
	"slices"
	"testing"

	"cube/api"
)

func TestChoosingDevices(t *testing.T) {
	for _, tc := range []struct {
		name         string
		count, share int
		left         []int16
		want         []int // nil: it does not fit
	}{
		{"the fullest that has enough", 1, 300, []int16{1000, 250, 400, 300, 900}, []int{3}},
		{"the first among equals", 1, 300, []int16{1000, 400, 400}, []int{1}},
		{"one that is whole, if it must be", 1, 300, []int16{299, 1000, 1000}, []int{1}},
		{"no share", 1, 300, []int16{299, 0}, nil},
		{"whole ones", 2, 1000, []int16{999, 1000, 0, 1000, 1000}, []int{1, 3}},
		{"too few whole ones", 2, 1000, []int16{999, 1000, 0}, nil},
		{"nothing there", 1, 1, nil, nil},
	} {
		d := api.DeviceRequest{Type: "gpu", Count: tc.count, Share: tc.share}
		if got := d.Fits(tc.left); got != (tc.want != nil) {
			t.Errorf("%s: fits: %v", tc.name, got)
		}
		if got := d.Choose(tc.left, nil); tc.want != nil && !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}
