module github.com/milepost/milepost/deploy

go 1.25.0
