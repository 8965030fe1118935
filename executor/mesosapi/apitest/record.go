package apitest

import "strconv"

// Record frames what event marshals to as one RecordIO record.
func Record(event interface{ Marshal() ([]byte, error) }) []byte {
	data, err := event.Marshal()
	if err != nil {
		panic(err) // a test's own event
	}
	return append([]byte(strconv.Itoa(len(data))+"\n"), data...)
}
