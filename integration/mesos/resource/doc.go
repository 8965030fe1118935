// Package resource does arithmetic on Mesos resources as Mesos does it: scalars
// as fixed point with three decimals, ranges as sorted intervals without gaps
// between neighbours, sets without duplicates, and two resources combine only
// when name, reservations, allocation role and the other qualifiers are equal.
//
// A Set is a value: its methods return new Sets and leave the receiver alone.
// From reads mesos-go's resources in either format (role, or a stack of
// reservations) and brings them to the latter; Proto gives them back in a Format.
// String is the text that Mesos puts into messages and logs. Parse reads the text
// of the --resources flag.
package resource
