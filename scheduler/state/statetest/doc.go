// Package statetest holds what every [state.Store] must pass.
package statetest
