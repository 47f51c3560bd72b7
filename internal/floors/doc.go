// Package floors holds the tests that keep the house in shape: which package may import which, what pure packages may
// not touch, and how long the longest things may be. Each ban stands with its reason.
package floors
