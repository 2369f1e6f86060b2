module github.com/milepost/milepost/services/distance

go 1.25.0

require github.com/milepost/milepost/pkg v0.0.0

replace github.com/milepost/milepost/pkg => ../../pkg
