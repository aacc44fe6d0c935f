// Package testkit gives tests real stores, faults and a clock they control.
//
// It imports none of the product's packages, so the tests of every package can
// use it. Programs that are not installed fail the test and name the Debian
// package that holds them; nothing is ever skipped.
package testkit
