// Package chart holds the tests of charts/milepost; there is nothing in it to import.
package chart
